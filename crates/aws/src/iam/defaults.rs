//! The identities that every Warren has, as the documents that a user would write.
//!
//! Least privilege: the launcher may run VMs and pass one role; what runs in a VM may read its
//! environment's key, end its own VM, and log. `ACCOUNT` and `REGION` stand for the configured ones.

/// (name, trust policy, permission policies)
pub(super) const ROLES: [(&str, &str, &[&str]); 4] = [
    ("warren-launcher", TRUSTS_ACCOUNT, &[LAUNCHER]),
    ("warren-build", TRUSTS_LAMBDA, &[BUILD]),
    ("warren-execution", TRUSTS_LAMBDA, &[EXECUTION]),
    ("warren-connector-operator", TRUSTS_LAMBDA, &[CONNECTOR_OPERATOR]),
];

/// The user whose key `warren env` prints.
pub(super) const OPERATOR: (&str, &str) = (
    "operator",
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#,
);

const TRUSTS_ACCOUNT: &str = r#"{"Version":"2012-10-17","Statement":[{
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::ACCOUNT:root"},
    "Action": ["sts:AssumeRole", "sts:TagSession"]
}]}"#;

const TRUSTS_LAMBDA: &str = r#"{"Version":"2012-10-17","Statement":[{
    "Effect": "Allow",
    "Principal": {"Service": "lambda.amazonaws.com"},
    "Action": ["sts:AssumeRole", "sts:TagSession"]
}]}"#;

const LAUNCHER: &str = r#"{"Version":"2012-10-17","Statement":[
    {
        "Sid": "RunAndLookAfterSessions",
        "Effect": "Allow",
        "Action": ["lambda:RunMicrovm", "lambda:GetMicrovm", "lambda:ResumeMicrovm", "lambda:TerminateMicrovm"],
        "Resource": "arn:aws:lambda:REGION:ACCOUNT:microvm-image:*"
    },
    {"Sid": "FindSessions", "Effect": "Allow", "Action": "lambda:ListMicrovms", "Resource": "*"},
    {
        "Sid": "UseConnectors",
        "Effect": "Allow",
        "Action": "lambda:PassNetworkConnector",
        "Resource": [
            "arn:aws:lambda:REGION:aws:network-connector:aws-network-connector:*",
            "arn:aws:lambda:REGION:ACCOUNT:network-connector:*"
        ]
    },
    {
        "Sid": "GiveTheWorkerItsRole",
        "Effect": "Allow",
        "Action": "iam:PassRole",
        "Resource": "arn:aws:iam::ACCOUNT:role/warren-execution"
    },
    {
        "Sid": "VerifyWebhooks",
        "Effect": "Allow",
        "Action": ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"],
        "Resource": "arn:aws:secretsmanager:REGION:ACCOUNT:secret:warren/webhook-signing-secret-??????"
    }
]}"#;

const EXECUTION: &str = r#"{"Version":"2012-10-17","Statement":[
    {
        "Sid": "ReadTheEnvironmentKey",
        "Effect": "Allow",
        "Action": "secretsmanager:GetSecretValue",
        "Resource": "arn:aws:secretsmanager:REGION:ACCOUNT:secret:warren/environment-key*"
    },
    {
        "Sid": "EndWithTheSession",
        "Effect": "Allow",
        "Action": ["lambda:TerminateMicrovm", "lambda:SuspendMicrovm"],
        "Resource": "arn:aws:lambda:REGION:ACCOUNT:microvm-image:*",
        "Condition": {"StringLike": {"aws:userid": "*:${warren:ExecutorSession}"}}
    },
    {
        "Sid": "Log",
        "Effect": "Allow",
        "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": "arn:aws:logs:REGION:ACCOUNT:log-group:/aws/lambda-microvms/*"
    }
]}"#;

const BUILD: &str = r#"{"Version":"2012-10-17","Statement":[
    {
        "Sid": "FetchArtifacts",
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:GetObjectVersion"],
        "Resource": "arn:aws:s3:::*"
    },
    {
        "Sid": "SayWhichArtifactIsMissing",
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": "arn:aws:s3:::*"
    },
    {
        "Sid": "Log",
        "Effect": "Allow",
        "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": "arn:aws:logs:REGION:ACCOUNT:log-group:/aws/lambda-microvms/*"
    }
]}"#;

const CONNECTOR_OPERATOR: &str = r#"{"Version":"2012-10-17","Statement":[{
    "Effect": "Allow",
    "Action": ["ec2:CreateNetworkInterface", "ec2:CreateTags"],
    "Resource": "*"
}]}"#;

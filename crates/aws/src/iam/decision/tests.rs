//! Decisions, as a table: a policy, a request, what comes out.

use super::*;

fn check(policy: &str, action: &str, resource: &str, expected: Decision) {
    let mut context = Context::default();
    context.set("aws:SourceIp", "10.1.2.3");
    context.set("aws:username", "ann");
    context.set("aws:CurrentTime", "2026-11-23T12:00:00Z");
    context.set("aws:SecureTransport", "false");
    context.set("aws:PrincipalArn", "arn:aws:iam::000000000000:role/warren-launcher");
    context.set_all("aws:TagKeys", vec!["team".into(), "cost".into()]);
    let policy = PolicyDocument::parse(policy).unwrap();
    let request = Request { action, resource: Some(resource), context: &context };
    assert_eq!(decide([&policy], &request), expected, "{policy:?}");
}

/// One statement with these members.
fn one(members: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":{{{members}}}}}"#)
}

const IMAGE: &str = "arn:aws:lambda:us-east-1:000000000000:microvm-image:claude-worker";

#[test]
fn an_explicit_deny_beats_every_allowance() {
    let policy = r#"{"Statement":[
        {"Effect":"Allow","Action":"*","Resource":"*"},
        {"Effect":"Deny","Action":"lambda:Terminate*","Resource":"*"}]}"#;
    check(policy, "lambda:TerminateMicrovm", IMAGE, Decision::ExplicitDeny);
    check(policy, "lambda:RunMicrovm", IMAGE, Decision::Allowed);
}

#[test]
fn what_nothing_allows_is_denied() {
    let policy = one(r#""Effect":"Allow","Action":["lambda:RunMicroVm"],"Resource":"*""#);
    check(&policy, "lambda:GetMicrovm", IMAGE, Decision::ImplicitDeny);
    // The reference sample writes it so: the case of actions does not matter.
    check(&policy, "lambda:RunMicrovm", IMAGE, Decision::Allowed);
}

#[test]
fn resources_are_matched_exactly_with_wildcards() {
    let policy = one(
        r#""Effect":"Allow","Action":"lambda:*","Resource":"arn:aws:lambda:*:*:microvm-image:claude-*""#,
    );
    check(&policy, "lambda:RunMicrovm", IMAGE, Decision::Allowed);
    check(&policy, "lambda:RunMicrovm", &IMAGE.replace("claude", "Claude"), Decision::ImplicitDeny);
    check(&policy, "lambda:ListMicrovms", "*", Decision::ImplicitDeny);
}

#[test]
fn not_action_and_not_resource_mean_all_but_these() {
    let policy = one(r#""Effect":"Allow","NotAction":"iam:*","Resource":"*""#);
    check(&policy, "lambda:RunMicrovm", IMAGE, Decision::Allowed);
    check(&policy, "iam:PassRole", IMAGE, Decision::ImplicitDeny);
    let policy = one(r#""Effect":"Deny","Action":"*","NotResource":"*claude-worker""#);
    check(&policy, "lambda:RunMicrovm", IMAGE, Decision::ImplicitDeny);
    check(&policy, "lambda:RunMicrovm", "other", Decision::ExplicitDeny);
}

#[test]
fn conditions_decide() {
    let allows = |condition: &str, expected: bool| {
        let policy = one(&format!(
            r#""Effect":"Allow","Action":"*","Resource":"*","Condition":{{{condition}}}"#
        ));
        let expected = if expected { Decision::Allowed } else { Decision::ImplicitDeny };
        check(&policy, "a:b", "*", expected);
    };
    allows(r#""StringEquals":{"AWS:username":["bob","ann"]}"#, true);
    allows(r#""StringNotEquals":{"aws:username":["bob","ann"]}"#, false);
    allows(r#""StringLike":{"aws:username":"a?n"}"#, true);
    allows(r#""StringEquals":{"aws:none":"x"}"#, false);
    allows(r#""StringNotEquals":{"aws:none":"x"}"#, true);
    allows(r#""StringEqualsIfExists":{"aws:none":"x"}"#, true);
    allows(r#""Null":{"aws:none":"true"}"#, true);
    allows(r#""Null":{"aws:username":true}"#, false);
    allows(r#""Bool":{"aws:SecureTransport":false}"#, true);
    allows(r#""Bool":{"aws:SecureTransport":"true"}"#, false);
    allows(r#""IpAddress":{"aws:SourceIp":"10.0.0.0/8"}"#, true);
    allows(r#""NotIpAddress":{"aws:SourceIp":["10.1.2.3","::/0"]}"#, false);
    allows(r#""DateGreaterThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"}"#, true);
    allows(r#""DateLessThan":{"aws:CurrentTime":"2026-01-01"}"#, false);
    allows(r#""ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/warren-*"}"#, true);
    allows(r#""ArnNotEquals":{"aws:PrincipalArn":"arn:aws:iam::*:role/warren-*"}"#, false);
    allows(r#""ForAllValues:StringEquals":{"aws:TagKeys":["team","cost","x"]}"#, true);
    allows(r#""ForAllValues:StringEquals":{"aws:TagKeys":["team"]}"#, false);
    allows(r#""ForAnyValue:StringEquals":{"aws:TagKeys":["team"]}"#, true);
    allows(r#""StringEquals":{"aws:username":"ann"},"Bool":{"aws:SecureTransport":"true"}"#, false);
}

#[test]
fn a_document_that_cannot_be_read_is_refused_with_its_place() {
    let error = |text: &str| PolicyDocument::parse(text).unwrap_err().to_string();
    let allow = r#""Effect":"Allow","Action":"*","Resource":"*""#;
    assert_eq!(
        error(&one(&format!(r#"{allow},"Condition":{{"StringIs":{{"a":"b"}}}}"#))),
        r#"statement 1: unknown condition operator "StringIs""#
    );
    assert_eq!(
        error(&one(&format!(r#"{allow},"Condition":{{"IpAddress":{{"aws:SourceIp":"10.0"}}}}"#))),
        r#"statement 1: IpAddress cannot compare aws:SourceIp with "10.0""#
    );
    assert!(error(&one(&format!(r#"{allow},"Resources":"x""#))).contains("unknown field"));
    assert!(error(&one(r#""Effect":"Allow","Action":"*""#)).contains("neither Resource"));
    assert!(error(&one(r#""Effect":"Maybe","Action":"*","Resource":"*""#)).contains("Maybe"));
    assert!(error("[]").contains("not a JSON policy document"));
}

#[test]
fn trust_in_an_account_is_less_than_trust_in_a_principal() {
    let policy = |principal: &str| {
        PolicyDocument::parse(&one(&format!(
            r#""Effect":"Allow","Principal":{principal},"Action":["sts:AssumeRole","sts:TagSession"]"#
        )))
        .unwrap()
    };
    let ann =
        Asker::Principal { arn: "arn:aws:iam::000000000000:user/ann", account: "000000000000" };
    let lambda = Asker::Service("lambda.amazonaws.com");
    let says = |principal: &str, asker| {
        trusts(&policy(principal), asker, "sts:AssumeRole", &Context::default())
    };
    assert_eq!(says(r#"{"AWS":"arn:aws:iam::000000000000:root"}"#, ann), Trust::Account);
    assert_eq!(says(r#"{"AWS":["000000000000"]}"#, ann), Trust::Account);
    assert_eq!(says(r#"{"AWS":"arn:aws:iam::000000000000:user/ann"}"#, ann), Trust::Named);
    assert_eq!(says(r#"{"AWS":"arn:aws:iam::000000000000:user/bob"}"#, ann), Trust::None);
    assert_eq!(says(r#"{"Service":"lambda.amazonaws.com"}"#, ann), Trust::None);
    assert_eq!(says(r#"{"Service":"lambda.amazonaws.com"}"#, lambda), Trust::Named);
    assert_eq!(says(r#""*""#, ann), Trust::Named);
}

#[test]
fn any_resource_is_allowed_where_some_is() {
    let asks = |policy: &str| {
        let policy = PolicyDocument::parse(policy).unwrap();
        let context = Context::default();
        let request = Request { action: "lambda:GetMicrovm", resource: None, context: &context };
        decide([&policy], &request)
    };
    let some = one(&format!(r#""Effect":"Allow","Action":"lambda:*","Resource":"{IMAGE}""#));
    assert_eq!(asks(&some), Decision::Allowed);
    let other = one(r#""Effect":"Allow","Action":"logs:*","Resource":"*""#);
    assert_eq!(asks(&other), Decision::ImplicitDeny);
}

//! Shapes that several operations share, as in the model `lambda-core` 2026-04-30.

use crate::shape::{Member, Shape, UNLIMITED};

pub(super) static IDENTIFIER: Shape = Shape::text(1, 140);
pub(super) static NAME: Shape = Shape::matching(
    1,
    140,
    r"(arn:aws[a-zA-Z-]*:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:network-connector:[a-zA-Z0-9-_]+(:[1-9][0-9]*)?)|[a-zA-Z0-9_-]{1,64}",
);
pub(super) static OPERATOR_ROLE: Shape =
    Shape::matching(0, 10_000, r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+");
pub(super) static CLIENT_TOKEN: Shape = Shape::text(1, 64);
pub(super) static STATE: Shape =
    Shape::Choice(&["PENDING", "ACTIVE", "INACTIVE", "FAILED", "DELETING", "DELETE_FAILED"]);
pub(super) static MARKER: Shape = Shape::text(0, UNLIMITED);
pub(super) static MAX_ITEMS: Shape = Shape::Integer { min: 1, max: 100 };

static SUBNET: Shape = Shape::matching(0, 1024, "subnet-[0-9a-z]*");
static SUBNETS: Shape = Shape::List { min: 1, max: 16, of: &SUBNET };
static GROUP: Shape = Shape::matching(0, 1024, "sg-[0-9a-zA-Z]*");
static GROUPS: Shape = Shape::List { min: 0, max: 16, of: &GROUP };
static PROTOCOL: Shape = Shape::Choice(&["IPv4", "DualStack"]);
static COMPUTE: Shape = Shape::Choice(&["MicroVm", "WebFunction"]);
static COMPUTES: Shape = Shape::List { min: 1, max: 1, of: &COMPUTE };
static ELASTIC_IP_TYPE: Shape = Shape::Choice(&["None", "ServiceManaged"]);
static ELASTIC_IP: Shape = Shape::Structure(&[Member::required("Type", &ELASTIC_IP_TYPE)]);
static VPC_EGRESS: Shape = Shape::Structure(&[
    Member::optional("SubnetIds", &SUBNETS),
    Member::optional("SecurityGroupIds", &GROUPS),
    Member::optional("NetworkProtocol", &PROTOCOL),
    Member::optional("AssociatedComputeResourceTypes", &COMPUTES),
    Member::optional("ElasticIpConfiguration", &ELASTIC_IP),
]);
pub(super) static CONFIGURATION: Shape =
    Shape::Union(&[Member::optional("VpcEgressConfiguration", &VPC_EGRESS)]);

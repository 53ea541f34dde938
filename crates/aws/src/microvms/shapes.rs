//! Shapes that several operations share, as in the model `lambda-microvms` 2025-09-09.

use crate::shape::{Member, Shape, UNLIMITED};

pub(super) static IMAGE_IDENTIFIER: Shape = Shape::text(1, 256);
pub(super) static MICROVM_IDENTIFIER: Shape = Shape::text(1, 256);
pub(super) static VERSION: Shape = Shape::matching(1, 2048, r"[^\s]+");
pub(super) static NON_BLANK: Shape = Shape::matching(1, 2048, r"[^\s]+");
pub(super) static TEXT: Shape = Shape::text(0, UNLIMITED);
pub(super) static ROLE_ARN: Shape =
    Shape::matching(20, 2048, r"arn:aws[a-z\-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+");
pub(super) static BOOLEAN: Shape = Shape::Boolean;
pub(super) static ARCHITECTURE: Shape = Shape::Choice(&["ARM_64", "X86_64"]);
pub(super) static CLIENT_TOKEN: Shape = Shape::text(1, 128);
pub(super) static MAX_RESULTS: Shape = Shape::Integer { min: 1, max: 50 };
pub(super) static POSITIVE: Shape = Shape::Integer { min: 1, max: i64::MAX };

static CONNECTOR: Shape = Shape::text(1, 2048);
pub(super) static CONNECTORS: Shape = Shape::List { min: 0, max: 10, of: &CONNECTOR };

pub(super) static NOTHING: Shape = Shape::Structure(&[]);
static LOG_GROUP: Shape = Shape::matching(1, 512, r"[a-zA-Z0-9_\-/.#]+");
static LOG_STREAM: Shape = Shape::matching(1, 512, "[^:*]*");
static CLOUD_WATCH: Shape = Shape::Structure(&[
    Member::optional("logGroup", &LOG_GROUP),
    Member::optional("logStream", &LOG_STREAM),
]);
pub(super) static LOGGING: Shape = Shape::Union(&[
    Member::optional("cloudWatch", &CLOUD_WATCH),
    Member::optional("disabled", &NOTHING),
]);

/// Only the MicroVM in the path.
pub(super) static OF_MICROVM: Shape =
    Shape::Structure(&[Member::label("microvmIdentifier", &MICROVM_IDENTIFIER)]);

/// Only the image in the path.
pub(super) static OF_IMAGE: Shape =
    Shape::Structure(&[Member::label("imageIdentifier", &IMAGE_IDENTIFIER)]);

/// The image and version in the path.
pub(super) static OF_VERSION: Shape = Shape::Structure(&[
    Member::label("imageIdentifier", &IMAGE_IDENTIFIER),
    Member::label("imageVersion", &NON_BLANK),
]);

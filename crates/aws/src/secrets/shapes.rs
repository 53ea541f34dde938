//! Shapes that several operations share, as in the model `secretsmanager` 2017-10-17.

use crate::shape::{Member, Shape, UNLIMITED};
use control::SECRET_BYTES_MAX;

pub(super) static NAME: Shape = Shape::text(1, 512);
pub(super) static SECRET_ID: Shape = Shape::text(1, 2048);
pub(super) static TOKEN: Shape = Shape::text(32, 64);
pub(super) static DESCRIPTION: Shape = Shape::text(0, 2048);
pub(super) static BINARY: Shape = Shape::Blob { min: 1, max: SECRET_BYTES_MAX };
pub(super) static STRING: Shape = Shape::secret(1, SECRET_BYTES_MAX);
pub(super) static STAGE: Shape = Shape::text(1, 256);
pub(super) static STAGES: Shape = Shape::List { min: 1, max: 20, of: &STAGE };
pub(super) static VERSION_ID: Shape = Shape::text(32, 64);
pub(super) static BOOLEAN: Shape = Shape::Boolean;

pub(super) static TAG_KEY: Shape = Shape::text(1, 128);
static TAG_VALUE: Shape = Shape::text(0, 256);
static TAG: Shape =
    Shape::Structure(&[Member::optional("Key", &TAG_KEY), Member::optional("Value", &TAG_VALUE)]);
pub(super) static TAGS: Shape = Shape::List { min: 0, max: UNLIMITED, of: &TAG };

/// Only the secret.
pub(super) static OF_SECRET: Shape = Shape::Structure(&[Member::required("SecretId", &SECRET_ID)]);

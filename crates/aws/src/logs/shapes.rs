//! Shapes that several operations share, as in the model `logs` 2014-03-28.

use crate::shape::{Shape, UNLIMITED};

pub(super) static GROUP: Shape = Shape::matching(1, 512, r"[\.\-_/#A-Za-z0-9]+");
pub(super) static GROUP_IDENTIFIER: Shape = Shape::matching(1, 2048, r"[\w#+=/:,.@-]*");
pub(super) static STREAM: Shape = Shape::matching(1, 512, "[^:*]*");
pub(super) static STREAMS: Shape = Shape::List { min: 1, max: 100, of: &STREAM };
/// Milliseconds since the epoch.
pub(super) static TIMESTAMP: Shape = Shape::Integer { min: 0, max: i64::MAX };
pub(super) static TOKEN: Shape = Shape::text(1, UNLIMITED);
pub(super) static DESCRIBE_LIMIT: Shape = Shape::Integer { min: 1, max: 50 };
pub(super) static EVENTS_LIMIT: Shape = Shape::Integer { min: 1, max: 10_000 };
pub(super) static BOOLEAN: Shape = Shape::Boolean;

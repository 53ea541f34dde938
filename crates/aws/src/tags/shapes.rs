//! What the three operations share, as in the model `lambda-microvms` 2025-09-09.

use super::KEY;
use crate::shape::{Shape, UNLIMITED};

pub(super) static RESOURCE: Shape = Shape::matching(
    1,
    10_000,
    r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|(capacity-provider|network-connector|microvm-image):[a-zA-Z0-9-_]+)",
);
pub(super) static KEYS: Shape = Shape::List { min: 0, max: UNLIMITED, of: &KEY };

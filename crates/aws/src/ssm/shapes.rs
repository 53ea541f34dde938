//! Shapes that several operations share, as in the model `ssm` 2014-11-06.

use crate::shape::{Member, Shape, UNLIMITED};

pub(super) static NAME: Shape = Shape::text(1, 2048);
pub(super) static NAMES: Shape = Shape::List { min: 1, max: 10, of: &NAME };
pub(super) static BOOLEAN: Shape = Shape::Boolean;
pub(super) static TOKEN: Shape = Shape::text(0, UNLIMITED);
pub(super) static VERSION: Shape = Shape::Integer { min: i64::MIN, max: i64::MAX };
pub(super) static RESULTS: Shape = Shape::Integer { min: 1, max: 50 };
pub(super) static OF_NAME: Shape = Shape::Structure(&[Member::required("Name", &NAME)]);
pub(super) static OF_NAMES: Shape = Shape::Structure(&[Member::required("Names", &NAMES)]);

pub(super) static TAG_KEY: Shape = Shape::matching(1, 128, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$");
static TAG_VALUE: Shape = Shape::matching(0, 256, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$");
static TAG: Shape =
    Shape::Structure(&[Member::required("Key", &TAG_KEY), Member::required("Value", &TAG_VALUE)]);
pub(super) static TAGS: Shape = Shape::List { min: 0, max: 1000, of: &TAG };

static FILTER_KEY: Shape =
    Shape::matching(1, 132, "^(tag:.+|Name|Type|KeyId|Path|Label|Tier|DataType)$");
static FILTER_OPTION: Shape = Shape::text(1, 10);
static FILTER_VALUE: Shape = Shape::text(1, 1024);
pub(super) static FILTER_VALUES: Shape = Shape::List { min: 1, max: 50, of: &FILTER_VALUE };
static FILTER: Shape = Shape::Structure(&[
    Member::required("Key", &FILTER_KEY),
    Member::optional("Option", &FILTER_OPTION),
    Member::optional("Values", &FILTER_VALUES),
]);
pub(super) static FILTERS: Shape = Shape::List { min: 0, max: UNLIMITED, of: &FILTER };

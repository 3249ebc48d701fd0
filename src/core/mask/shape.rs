//! What kind of value a type holds, as far as masks can tell them apart by the type's name.

use super::own_types::{Condition, OwnType, Types};

/// How deep types of types are followed: PostgreSQL has no circles of them, but no limit either.
const DEEPEST: u8 = 8;

/// The kinds of values that a mask can show a part of. All others show nothing or a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `most` is the longest text it takes; shorter results are cut.
    Text {
        most: Option<u32>,
    },
    /// `int2`, `int4`, `int8`: how PostgreSQL spells it.
    Integer(&'static str),
    /// How many digits it has room for before the point; none: any.
    Numeric(Option<u32>),
    /// `float4`, `float8`
    Float,
    Money,
    Date,
    Timestamp,
    TimestampTz,
    /// `time`, `timetz`
    Time,
    TimeTz,
    Interval,
    /// `inet`
    Address,
    /// `cidr`
    Network,
    /// `macaddr`, `macaddr8`
    Hardware,
    Uuid,
    Bytes,
    Json,
    JsonBinary,
    Boolean,
    /// An enum, with its labels.
    Labels(Vec<String>),
    /// Fields of their own.
    Record {
        name: String,
        fields: Vec<RecordField>,
    },
    /// A domain that refuses some values of the type below: `condition` is true of those it takes.
    Guarded {
        name: String,
        over: String,
        condition: String,
        of: Box<Shape>,
        stand_in: Option<String>,
    },
    /// A range, of the type named.
    Range {
        name: String,
        bound: String,
        of: Box<Shape>,
    },
    /// Several of a range.
    Multirange(Box<Shape>),
    Array(Box<Shape>),
    /// XML, geometry, bit strings and whatever else there is: there is no part of such a value that
    /// says less than the value.
    Opaque,
}

/// One field of a composite type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordField {
    pub name: String,
    pub type_name: String,
    pub shape: Shape,
}

impl Shape {
    /// Reads `format_type` text; `types` are those of the database's own.
    pub fn of(type_name: &str, types: &Types) -> Self {
        Self::at(type_name, types, 0)
    }

    fn at(type_name: &str, types: &Types, depth: u8) -> Self {
        if depth > DEEPEST {
            return Self::Opaque;
        }
        let below = |name: &str| Self::at(name, types, depth.saturating_add(1));
        if let Some(element) = type_name.strip_suffix("[]") {
            return Self::Array(Box::new(below(element)));
        }
        match types.get(type_name) {
            Some(own) => own.shape(type_name, &below),
            None => Self::built_in(type_name),
        }
    }

    fn built_in(type_name: &str) -> Self {
        let range = |name: &str, bound: &str, of| Self::Range {
            name: name.to_owned(),
            bound: bound.to_owned(),
            of: Box::new(of),
        };
        let (base, modifier) = split(type_name);
        match base.as_str() {
            "text" | "bpchar" => Self::Text { most: None },
            "name" => Self::Text { most: Some(63) },
            // Without a length, `character` is one letter and `character varying` any text.
            "character" => Self::Text { most: Some(modifier.unwrap_or(1)) },
            "character varying" => Self::Text { most: modifier },
            "smallint" => Self::Integer("int2"),
            "integer" => Self::Integer("int4"),
            "bigint" => Self::Integer("int8"),
            "numeric" => Self::Numeric(digits(type_name)),
            "real" | "double precision" => Self::Float,
            "money" => Self::Money,
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            "timestamp without time zone" => Self::Timestamp,
            "timestamp with time zone" => Self::TimestampTz,
            "time without time zone" => Self::Time,
            "time with time zone" => Self::TimeTz,
            "inet" => Self::Address,
            "cidr" => Self::Network,
            "macaddr" | "macaddr8" => Self::Hardware,
            "uuid" => Self::Uuid,
            "bytea" => Self::Bytes,
            "json" => Self::Json,
            "jsonb" => Self::JsonBinary,
            "int4range" => range("int4range", "integer", Self::Integer("int4")),
            "int8range" => range("int8range", "bigint", Self::Integer("int8")),
            "numrange" => range("numrange", "numeric", Self::Numeric(None)),
            "daterange" => range("daterange", "date", Self::Date),
            "tsrange" => range("tsrange", "timestamp without time zone", Self::Timestamp),
            "tstzrange" => range("tstzrange", "timestamp with time zone", Self::TimestampTz),
            "int4multirange" | "int8multirange" | "nummultirange" | "datemultirange" | "tsmultirange"
            | "tstzmultirange" => Self::Multirange(Box::new(Self::built_in(&base.replace("multi", "")))),
            // With fields: `interval day to second(3)`.
            other if other == "interval" || other.starts_with("interval ") => Self::Interval,
            // The extension's type casts to text and back, in whatever schema it lives.
            other if other.ends_with(".citext") => Self::Text { most: None },
            _ => Self::Opaque,
        }
    }
}

impl OwnType {
    fn shape(&self, name: &str, below: &dyn Fn(&str) -> Shape) -> Shape {
        match self {
            Self::Enum { labels } => Shape::Labels(labels.clone()),
            Self::Composite { fields } => {
                let field = |field: &super::own_types::Field| RecordField {
                    name: field.name.clone(),
                    type_name: field.type_name.clone(),
                    shape: below(&field.type_name),
                };
                Shape::Record { name: name.to_owned(), fields: fields.iter().map(field).collect() }
            }
            Self::Domain { over, condition: Condition::None, .. } => below(over),
            Self::Domain { over, condition: Condition::Known(condition), stand_in } => Shape::Guarded {
                name: name.to_owned(),
                over: over.clone(),
                condition: condition.clone(),
                stand_in: stand_in.clone(),
                of: Box::new(below(over)),
            },
            Self::Range { of, is_usual: true } => {
                Shape::Range { name: name.to_owned(), bound: of.clone(), of: Box::new(below(of)) }
            }
            Self::Multirange { range } => Shape::Multirange(Box::new(below(range))),
            Self::Domain { condition: Condition::Unknown, .. } | Self::Range { is_usual: false, .. } => Shape::Opaque,
        }
    }
}

impl Shape {
    /// Whether every mask that fits gives NULL for NULL, without a look at it: what the expressions call
    /// is strict, and a CASE of theirs ends in what is.
    pub fn keeps_null(&self) -> bool {
        match self {
            Self::Text { .. }
            | Self::Integer(_)
            | Self::Numeric(_)
            | Self::Float
            | Self::Money
            | Self::Date
            | Self::Timestamp
            | Self::TimestampTz
            | Self::Time
            | Self::TimeTz
            | Self::Interval
            | Self::Address
            | Self::Network
            | Self::Hardware
            | Self::Uuid
            | Self::Bytes => true,
            Self::Json
            | Self::JsonBinary
            | Self::Boolean
            | Self::Labels(_)
            | Self::Record { .. }
            | Self::Guarded { .. }
            | Self::Range { .. }
            | Self::Multirange(_)
            | Self::Array(_)
            | Self::Opaque => false,
        }
    }
}

/// Digits before the point of `numeric(precision, scale)`; none of one that is rounded before the point.
fn digits(type_name: &str) -> Option<u32> {
    let (_, modifier) = type_name.split_once('(')?;
    let mut numbers = modifier.trim_end_matches(')').split(',').map(|part| part.trim().parse::<i64>().unwrap_or(0));
    let (precision, scale) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Some(if scale < 0 { 0 } else { u32::try_from(precision.saturating_sub(scale)).unwrap_or(0) })
}

/// The name without its modifier, which may stand in the middle: `timestamp(3) with time zone`.
fn split(type_name: &str) -> (String, Option<u32>) {
    let Some((head, rest)) = type_name.split_once('(') else { return (type_name.to_owned(), None) };
    let Some((inside, tail)) = rest.split_once(')') else { return (type_name.to_owned(), None) };
    (format!("{head}{tail}"), inside.split(',').next().and_then(|first| first.parse().ok()))
}

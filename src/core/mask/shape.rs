//! What kind of value a type holds, as far as masks can tell them apart by the type's name.

/// The kinds of values that a mask can show a part of. All others show nothing or a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `most` is the longest text it takes; shorter results are cut.
    Text {
        most: Option<u32>,
    },
    /// `int2`, `int4`, `int8`: how PostgreSQL spells it.
    Integer(&'static str),
    Numeric,
    /// `float4`, `float8`
    Float,
    Money,
    Date,
    Timestamp,
    TimestampTz,
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
    /// A range, of the type named.
    Range {
        name: &'static str,
        of: Box<Shape>,
    },
    Array(Box<Shape>),
    /// Booleans, enums, composite types, geometry, times of day and whatever else there is: there
    /// is no part of such a value that says less than the value.
    Opaque,
}

impl Shape {
    /// Reads `format_type` text.
    pub fn of(type_name: &str) -> Self {
        if let Some(element) = type_name.strip_suffix("[]") {
            return Self::Array(Box::new(Self::of(element)));
        }
        let range = |name, of| Self::Range { name, of: Box::new(of) };
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
            "numeric" => Self::Numeric,
            "real" | "double precision" => Self::Float,
            "money" => Self::Money,
            "date" => Self::Date,
            "timestamp without time zone" => Self::Timestamp,
            "timestamp with time zone" => Self::TimestampTz,
            "inet" => Self::Address,
            "cidr" => Self::Network,
            "macaddr" | "macaddr8" => Self::Hardware,
            "uuid" => Self::Uuid,
            "bytea" => Self::Bytes,
            "json" => Self::Json,
            "jsonb" => Self::JsonBinary,
            "int4range" => range("int4range", Self::Integer("int4")),
            "int8range" => range("int8range", Self::Integer("int8")),
            "numrange" => range("numrange", Self::Numeric),
            "daterange" => range("daterange", Self::Date),
            "tsrange" => range("tsrange", Self::Timestamp),
            "tstzrange" => range("tstzrange", Self::TimestampTz),
            // The extension's type casts to text and back, in whatever schema it lives.
            other if other.ends_with(".citext") => Self::Text { most: None },
            _ => Self::Opaque,
        }
    }
}

/// The name without its modifier, which may stand in the middle: `timestamp(3) with time zone`.
fn split(type_name: &str) -> (String, Option<u32>) {
    let Some((head, rest)) = type_name.split_once('(') else { return (type_name.to_owned(), None) };
    let Some((inside, tail)) = rest.split_once(')') else { return (type_name.to_owned(), None) };
    (format!("{head}{tail}"), inside.split(',').next().and_then(|first| first.parse().ok()))
}

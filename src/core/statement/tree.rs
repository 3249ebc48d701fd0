//! A parse tree that nothing can hide in.
//!
//! The parser's own structs number in the hundreds, and a hand-written walk forgets some. They do
//! all serialise, so a serialiser that keeps names and values is a visitor that cannot forget.

use serde::ser::{self, Serialize};

use super::newer;

/// Any part of a parse tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tree {
    /// A node: the name of its type, and its fields.
    Node(&'static str, Vec<(&'static str, Tree)>),
    List(Vec<Tree>),
    Text(String),
    Int(i64),
    Bool(bool),
    #[default]
    Nothing,
}

impl Tree {
    /// The tree of anything that serialises.
    pub fn of(value: &impl Serialize) -> Self {
        value.serialize(Grower).expect("growing a tree cannot fail")
    }

    /// The name of the node's type; empty for what is no node.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Node(kind, _) => kind,
            _ => "",
        }
    }

    /// A field of a node.
    pub fn get(&self, name: &str) -> &Self {
        match self {
            Self::Node(_, fields) => fields.iter().find(|(field, _)| *field == name).map_or(&Self::Nothing, |(_, t)| t),
            _ => &Self::Nothing,
        }
    }

    /// A field of a node, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        match self {
            Self::Node(_, fields) => fields.iter_mut().find(|(field, _)| *field == name).map(|(_, tree)| tree),
            _ => None,
        }
    }

    /// The items of a list; none for anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// Text; empty for anything else. The parser writes absent names as empty text.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    pub fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            _ => 0,
        }
    }

    pub fn flag(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// What a RangeVar names: the schema as written, if any, and the relation.
    pub fn relation(&self) -> (Option<&str>, &str) {
        let schema = self.get("schemaname").text();
        ((!schema.is_empty()).then_some(schema), self.get("relname").text())
    }

    /// A location: bytes from the start of the text; none where the parser knows none.
    pub fn location(&self) -> Option<usize> {
        usize::try_from(self.get("location").int()).ok()
    }

    /// Calls `see` with every node, parents before children.
    pub fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Self)) {
        match self {
            Self::Node(_, fields) => {
                see(self);
                fields.iter().for_each(|(_, tree)| tree.visit(see));
            }
            Self::List(items) => items.iter().for_each(|item| item.visit(see)),
            Self::Text(_) | Self::Int(_) | Self::Bool(_) | Self::Nothing => {}
        }
    }

    /// All its nodes, each counted once for every node that it stands in: what it costs to look through
    /// every part of it from its top.
    pub fn weight(&self) -> u64 {
        self.weight_at(1)
    }

    fn weight_at(&self, depth: u64) -> u64 {
        match self {
            Self::Node(_, fields) => depth + fields.iter().map(|(_, tree)| tree.weight_at(depth + 1)).sum::<u64>(),
            Self::List(items) => items.iter().map(|item| item.weight_at(depth)).sum(),
            Self::Text(_) | Self::Int(_) | Self::Bool(_) | Self::Nothing => 0,
        }
    }

    /// The same tree with every position set to zero, so that equal meaning is equal value.
    pub fn without_locations(mut self) -> Self {
        self.strip();
        self
    }

    fn strip(&mut self) {
        match self {
            Self::Node(_, fields) => {
                for (name, tree) in fields {
                    if is_location(name) {
                        *tree = Self::Int(0);
                    } else {
                        tree.strip();
                    }
                }
            }
            Self::List(items) => items.iter_mut().for_each(Self::strip),
            Self::Text(_) | Self::Int(_) | Self::Bool(_) | Self::Nothing => {}
        }
    }
}

/// Fields that say where in the text a node stood.
fn is_location(name: &str) -> bool {
    matches!(
        name,
        "location"
            | "arg_location"
            | "stmt_location"
            | "stmt_len"
            | "rexpr_list_start"
            | "rexpr_list_end"
            | "list_start"
            | "list_end"
    )
}

/// The serialiser behind [`Tree::of`].
struct Grower;

/// The parser's trees hold no floats, maps or bytes: meeting one means the parser changed.
#[derive(Debug)]
struct Foreign(String);

impl std::fmt::Display for Foreign {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Foreign {}

impl ser::Error for Foreign {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

macro_rules! integers {
    ($($method:ident $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<Tree, Foreign> {
            Ok(Tree::Int(i64::try_from(value).unwrap_or(i64::MAX)))
        })*
    };
}

impl ser::Serializer for Grower {
    type Ok = Tree;
    type Error = Foreign;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = ser::Impossible<Tree, Foreign>;
    type SerializeMap = ser::Impossible<Tree, Foreign>;
    type SerializeStruct = Fields;
    type SerializeStructVariant = ser::Impossible<Tree, Foreign>;

    integers!(serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64,
              serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);

    fn serialize_bool(self, value: bool) -> Result<Tree, Foreign> {
        Ok(Tree::Bool(value))
    }
    fn serialize_f32(self, value: f32) -> Result<Tree, Foreign> {
        Ok(Tree::Text(value.to_string()))
    }
    fn serialize_f64(self, value: f64) -> Result<Tree, Foreign> {
        Ok(Tree::Text(value.to_string()))
    }
    fn serialize_char(self, value: char) -> Result<Tree, Foreign> {
        Ok(Tree::Text(value.into()))
    }
    fn serialize_str(self, value: &str) -> Result<Tree, Foreign> {
        Ok(Tree::Text(value.to_owned()))
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<Tree, Foreign> {
        Ok(Tree::Text(String::from_utf8_lossy(value).into_owned()))
    }
    fn serialize_none(self) -> Result<Tree, Foreign> {
        Ok(Tree::Nothing)
    }
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<Tree, Foreign> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Tree, Foreign> {
        Ok(Tree::Nothing)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Tree, Foreign> {
        Ok(Tree::Nothing)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Tree, Foreign> {
        Ok(Tree::Text(variant.to_owned()))
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Result<Tree, Foreign> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Tree, Foreign> {
        value.serialize(self)
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<Items, Foreign> {
        Ok(Items(Vec::with_capacity(length.unwrap_or(0))))
    }
    fn serialize_tuple(self, length: usize) -> Result<Items, Foreign> {
        Ok(Items(Vec::with_capacity(length)))
    }
    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Items, Foreign> {
        Ok(Items(Vec::with_capacity(length)))
    }
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Foreign> {
        Err(Foreign(name.to_owned()))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Foreign> {
        Err(Foreign("map".to_owned()))
    }
    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Fields, Foreign> {
        Ok(Fields { kind: name, fields: Vec::with_capacity(length) })
    }
    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Foreign> {
        Err(Foreign(name.to_owned()))
    }
}

/// A list being grown.
struct Items(Vec<Tree>);

impl Items {
    fn push<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Foreign> {
        self.0.push(value.serialize(Grower)?);
        Ok(())
    }
}

impl ser::SerializeSeq for Items {
    type Ok = Tree;
    type Error = Foreign;
    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Foreign> {
        self.push(value)
    }
    fn end(self) -> Result<Tree, Foreign> {
        Ok(Tree::List(self.0))
    }
}

impl ser::SerializeTuple for Items {
    type Ok = Tree;
    type Error = Foreign;
    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Foreign> {
        self.push(value)
    }
    fn end(self) -> Result<Tree, Foreign> {
        Ok(Tree::List(self.0))
    }
}

impl ser::SerializeTupleStruct for Items {
    type Ok = Tree;
    type Error = Foreign;
    fn serialize_field<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Foreign> {
        self.push(value)
    }
    fn end(self) -> Result<Tree, Foreign> {
        Ok(Tree::List(self.0))
    }
}

/// A node being grown.
struct Fields {
    kind: &'static str,
    fields: Vec<(&'static str, Tree)>,
}

impl ser::SerializeStruct for Fields {
    type Ok = Tree;
    type Error = Foreign;
    fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Foreign> {
        self.fields.push((name, value.serialize(Grower)?));
        Ok(())
    }
    fn end(self) -> Result<Tree, Foreign> {
        // `Node` is a wrapper around the one node it holds, and says nothing of its own.
        if self.kind == "Node" {
            return Ok(self.fields.into_iter().next().map_or(Tree::Nothing, |(_, inner)| inner));
        }
        Ok(newer::as_call(Tree::Node(self.kind, self.fields)))
    }
}

//! Items to the model that the output is written from: names resolved, bounds known, sizes computed. Runs in
//! `cargo xtask gen`. What a peer could abuse is refused here: data without bound, types that contain themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Error, Result};
use super::parser::{Base, Declaration, Item, Kind, Name, Procedure, Shape, Value, Version};

/// Larger does not fit into a record of RFC 5531 (31 bits of length).
const SIZE_LIMIT: u64 = (1 << 31) - 1;

/// A type as it is on the wire.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Void,
    /// The Rust type of the same meaning.
    Primitive(&'static str),
    /// An enum, struct or union.
    Named(String),
    /// A typedef, by its name, and what it stands for.
    Alias(String, Box<Type>),
    /// At most so many bytes.
    Text(u64),
    Opaque(u64),
    /// Exactly so many bytes.
    FixedOpaque(u64),
    List(Box<Type>, u64),
    Array(Box<Type>, u64),
    Optional(Box<Type>),
}

impl Type {
    /// The type behind all typedefs.
    pub(super) fn resolved(&self) -> &Type {
        match self {
            Type::Alias(_, inner) => inner.resolved(),
            other => other,
        }
    }
}

/// A field of a struct, with its type resolved.
pub(super) struct Field {
    pub(super) name: Name,
    pub(super) ty: Type,
}

/// A value of a union's discriminant, and what the union has then.
pub(super) struct Case {
    /// As the file has it.
    pub(super) name: Name,
    pub(super) value: i64,
    pub(super) ty: Type,
}

/// A union with its discriminant: a case for each value that is named, perhaps one for all others.
pub(super) struct Union {
    /// bool, i32, u32 or an enum.
    pub(super) switch: Type,
    pub(super) cases: Vec<Case>,
    /// The arm for all other values.
    pub(super) default: Option<Type>,
    /// The cases name all values there are.
    pub(super) complete: bool,
}

/// A procedure, with its types resolved and its sizes computed.
pub(super) struct Call {
    pub(super) name: Name,
    pub(super) number: u32,
    pub(super) arguments: Vec<Type>,
    pub(super) result: Type,
    /// Bytes on the wire, at most.
    pub(super) max_arguments: u64,
    pub(super) max_result: u64,
}

/// A version of a program, which becomes one server trait.
pub(super) struct Interface {
    pub(super) name: Name,
    pub(super) number: u32,
    pub(super) calls: Vec<Call>,
}

/// What a name of the file stands for.
pub(super) enum Meaning {
    Const(i64),
    Enum(Vec<(Name, i64)>),
    Struct(Vec<Field>),
    Union(Union),
    Typedef(Type),
    Program {
        number: u32,
        interfaces: Vec<Interface>,
    },
}

/// A file that was found free of errors, in its order.
pub(super) struct Model {
    pub(super) items: Vec<(Name, Meaning)>,
}

/// Checks all items. Everything must be defined above its use, as in C: that alone rules recursion out.
pub(super) fn check(items: Vec<Item>) -> Result<Model> {
    let mut checker = Checker::default();
    checker.constants.insert("TRUE".into(), 1);
    checker.constants.insert("FALSE".into(), 0);
    let mut checked = Vec::new();
    for item in items {
        let meaning = checker.item(&item)?;
        checked.push((item.name, meaning));
    }
    Ok(Model { items: checked })
}

/// What is known of a type that can be named.
struct Known {
    ty: Type,
    max_size: u64,
    /// The values, if it is an enum.
    values: Option<BTreeMap<String, i64>>,
}

#[derive(Default)]
struct Checker {
    constants: BTreeMap<String, i64>,
    types: BTreeMap<String, Known>,
    /// Names of types in Rust, which differ less than those of the file.
    rust_names: BTreeSet<String>,
}

impl Checker {
    fn item(&mut self, item: &Item) -> Result<Meaning> {
        let name = &item.name;
        match &item.kind {
            Kind::Const(value) => {
                let value = self.value(value)?;
                self.constant(name, value)?;
                Ok(Meaning::Const(value))
            }
            Kind::Enum(values) => self.enumeration(name, values),
            Kind::Struct(declarations) => {
                let fields = self.fields(name, declarations)?;
                let size = fields
                    .iter()
                    .map(|field| self.size(&field.ty))
                    .fold(0, u64::saturating_add);
                self.define(name, Type::Named(name.text.clone()), size, None)?;
                Ok(Meaning::Struct(fields))
            }
            Kind::Union { switch, arms } => {
                let union = self.union(name, switch, arms)?;
                let arms = union
                    .cases
                    .iter()
                    .map(|case| &case.ty)
                    .chain(&union.default);
                let size = arms
                    .map(|ty| self.size(ty))
                    .max()
                    .unwrap_or(0)
                    .saturating_add(4);
                self.define(name, Type::Named(name.text.clone()), size, None)?;
                Ok(Meaning::Union(union))
            }
            Kind::Typedef(declaration) => {
                let ty = self.declared(declaration)?;
                let size = self.size(&ty);
                let alias = Type::Alias(name.text.clone(), Box::new(ty.clone()));
                self.define(name, alias, size, None)?;
                Ok(Meaning::Typedef(ty))
            }
            Kind::Program { versions, number } => {
                let number = self.unsigned(number, name.line)?;
                let mut seen = BTreeSet::new();
                let mut interfaces = Vec::new();
                for version in versions {
                    let interface = self.interface(version)?;
                    if !seen.insert(interface.number) {
                        return Err(Error::new(
                            version.name.line,
                            "this version number is used twice",
                        ));
                    }
                    interfaces.push(interface);
                }
                Ok(Meaning::Program { number, interfaces })
            }
        }
    }

    fn enumeration(&mut self, name: &Name, values: &[(Name, Value)]) -> Result<Meaning> {
        let mut checked = Vec::new();
        let mut by_name = BTreeMap::new();
        for (value_name, value) in values {
            let value = self.value(value)?;
            if i32::try_from(value).is_err() {
                return Err(Error::new(
                    value_name.line,
                    format!("{value} does not fit into an enum (32 bits)"),
                ));
            }
            if by_name.values().any(|other| *other == value) {
                return Err(Error::new(
                    value_name.line,
                    format!("the value {value} is used twice"),
                ));
            }
            self.constant(value_name, value)?;
            by_name.insert(value_name.text.clone(), value);
            checked.push((value_name.clone(), value));
        }
        self.define(name, Type::Named(name.text.clone()), 4, Some(by_name))?;
        Ok(Meaning::Enum(checked))
    }

    fn fields(&self, name: &Name, declarations: &[Declaration]) -> Result<Vec<Field>> {
        let mut seen = BTreeSet::new();
        let mut fields = Vec::new();
        for declaration in declarations {
            let ty = self.declared(declaration)?;
            let field = declaration.name.clone();
            if ty == Type::Void || !seen.insert(super::names::field_name(&field.text)) {
                return Err(Error::new(
                    field.line,
                    format!("{:?} cannot be a field here", field.text),
                ));
            }
            fields.push(Field { name: field, ty });
        }
        if fields.is_empty() {
            // An array of nothing would let four bytes stand for any number of elements.
            return Err(Error::new(name.line, "a struct without fields has no size"));
        }
        Ok(fields)
    }

    /// The names of all values of what a union switches on; None if there is no list of them.
    fn switched_values(&self, switch: &Type, line: u32) -> Result<Option<BTreeMap<String, i64>>> {
        match switch.resolved() {
            Type::Primitive("bool") => Ok(Some(BTreeMap::from([
                ("TRUE".into(), 1),
                ("FALSE".into(), 0),
            ]))),
            Type::Primitive("i32" | "u32") => Ok(None),
            Type::Named(enumeration) => match self.types.get(enumeration) {
                Some(Known {
                    values: Some(values),
                    ..
                }) => Ok(Some(values.clone())),
                _ => Err(Error::new(
                    line,
                    format!("{enumeration} is no enum to switch on"),
                )),
            },
            _ => Err(Error::new(
                line,
                "a union switches on an int, a bool or an enum",
            )),
        }
    }

    fn union(
        &self,
        name: &Name,
        switch: &Declaration,
        arms: &[super::parser::Arm],
    ) -> Result<Union> {
        let line = name.line;
        let switch = self.declared(switch)?;
        let values = self.switched_values(&switch, line)?;
        let mut union = Union {
            switch,
            cases: Vec::new(),
            default: None,
            complete: false,
        };
        for arm in arms {
            let ty = self.declared(&arm.content)?;
            if arm.cases.is_empty() && union.default.replace(ty.clone()).is_some() {
                return Err(Error::new(line, "there are two default arms"));
            }
            for (value, case) in &arm.cases {
                if let Some(values) = &values
                    && !values.contains_key(&case.text)
                {
                    return Err(Error::new(
                        case.line,
                        format!("{} is no value of what is switched on", case.text),
                    ));
                }
                let value = self.value(value)?;
                if union.cases.iter().any(|other| other.value == value) {
                    return Err(Error::new(
                        case.line,
                        format!("there are two arms for {}", case.text),
                    ));
                }
                let mut case = case.clone();
                case.doc = arm.content.name.doc.clone().or(case.doc);
                union.cases.push(Case {
                    name: case,
                    value,
                    ty: ty.clone(),
                });
            }
        }
        union.complete = values.is_some_and(|values| values.len() == union.cases.len());
        if union.complete && union.default.is_some() {
            return Err(Error::new(line, "the default arm can never be chosen"));
        }
        Ok(union)
    }

    fn interface(&self, version: &Version) -> Result<Interface> {
        let mut calls: Vec<Call> = Vec::new();
        for procedure in &version.procedures {
            let call = self.call(procedure)?;
            let line = procedure.name.line;
            if calls.iter().any(|other| other.number == call.number) {
                return Err(Error::new(
                    line,
                    format!("the procedure number {} is used twice", call.number),
                ));
            }
            if calls.iter().any(|other| other.name.text == call.name.text) {
                return Err(Error::new(
                    line,
                    format!("{} is defined twice", call.name.text),
                ));
            }
            if call.number == 0 && (!call.arguments.is_empty() || call.result != Type::Void) {
                return Err(Error::new(
                    line,
                    "procedure 0 takes and gives nothing (RFC 5531)",
                ));
            }
            calls.push(call);
        }
        let number = self.unsigned(&version.number, version.name.line)?;
        Ok(Interface {
            name: version.name.clone(),
            number,
            calls,
        })
    }

    fn call(&self, procedure: &Procedure) -> Result<Call> {
        let line = procedure.name.line;
        let arguments = procedure
            .arguments
            .iter()
            .map(|base| self.plain(base, line))
            .collect::<Result<Vec<_>>>()?;
        let result = self.plain(&procedure.result, line)?;
        Ok(Call {
            name: procedure.name.clone(),
            number: self.unsigned(&procedure.number, line)?,
            max_arguments: arguments
                .iter()
                .map(|ty| self.size(ty))
                .fold(0, u64::saturating_add),
            max_result: self.size(&result),
            arguments,
            result,
        })
    }

    fn declared(&self, declaration: &Declaration) -> Result<Type> {
        let Declaration { name, base, shape } = declaration;
        let unbounded = || {
            let text = format!(
                "{}<> has no bound, so a peer could send any amount: write <n>",
                name.text
            );
            Error::new(name.line, text)
        };
        match (base, shape) {
            (Base::String, Shape::Variable(Some(bound))) => {
                Ok(Type::Text(self.bound(bound, name.line)?))
            }
            (Base::Opaque, Shape::Variable(Some(bound))) => {
                Ok(Type::Opaque(self.bound(bound, name.line)?))
            }
            (Base::Opaque, Shape::Fixed(size)) => {
                Ok(Type::FixedOpaque(self.bound(size, name.line)?))
            }
            (_, Shape::Variable(None)) => Err(unbounded()),
            (Base::String | Base::Opaque, _) => {
                let text = format!(
                    "{} needs a length: string x<n>, opaque x<n> or opaque x[n]",
                    name.text
                );
                Err(Error::new(name.line, text))
            }
            (_, Shape::Plain) => self.plain(base, name.line),
            (_, Shape::Optional) => Ok(Type::Optional(Box::new(self.plain(base, name.line)?))),
            (_, Shape::Fixed(size)) => Ok(Type::Array(
                Box::new(self.plain(base, name.line)?),
                self.bound(size, name.line)?,
            )),
            (_, Shape::Variable(Some(bound))) => Ok(Type::List(
                Box::new(self.plain(base, name.line)?),
                self.bound(bound, name.line)?,
            )),
        }
    }

    fn plain(&self, base: &Base, line: u32) -> Result<Type> {
        match base {
            Base::Void => Ok(Type::Void),
            Base::Primitive(name) => Ok(Type::Primitive(name)),
            Base::String | Base::Opaque => Err(Error::new(
                line,
                "give this string or opaque a name by a typedef",
            )),
            Base::Named(name) => self
                .types
                .get(name)
                .map(|known| known.ty.clone())
                .ok_or_else(|| {
                    let why = "a type must stand above its use, so none can contain itself";
                    Error::new(line, format!("the type {name} is not defined yet: {why}"))
                }),
        }
    }

    /// Bytes of a value on the wire, at most.
    fn size(&self, ty: &Type) -> u64 {
        let padded = |bytes: u64| bytes.saturating_add(3) & !3;
        match ty {
            Type::Void => 0,
            Type::Primitive("i64" | "u64" | "f64") => 8,
            Type::Primitive(_) => 4,
            Type::Named(name) => self.types.get(name).map_or(0, |known| known.max_size),
            Type::Alias(_, inner) => self.size(inner),
            Type::Text(max) | Type::Opaque(max) => padded(*max).saturating_add(4),
            Type::FixedOpaque(size) => padded(*size),
            Type::List(inner, max) => self.size(inner).saturating_mul(*max).saturating_add(4),
            Type::Array(inner, size) => self.size(inner).saturating_mul(*size),
            Type::Optional(inner) => self.size(inner).saturating_add(4),
        }
    }

    fn define(
        &mut self,
        name: &Name,
        ty: Type,
        max_size: u64,
        values: Option<BTreeMap<String, i64>>,
    ) -> Result<()> {
        if max_size > SIZE_LIMIT {
            return Err(Error::new(
                name.line,
                format!("{} can be larger than a record (2 GiB)", name.text),
            ));
        }
        let fresh = self.rust_names.insert(super::names::camel(&name.text));
        if !fresh || self.constants.contains_key(&name.text) {
            return Err(Error::new(
                name.line,
                format!("{} is defined twice", name.text),
            ));
        }
        self.types.insert(
            name.text.clone(),
            Known {
                ty,
                max_size,
                values,
            },
        );
        Ok(())
    }

    fn constant(&mut self, name: &Name, value: i64) -> Result<()> {
        if self.types.contains_key(&name.text)
            || self.constants.insert(name.text.clone(), value).is_some()
        {
            return Err(Error::new(
                name.line,
                format!("{} is defined twice", name.text),
            ));
        }
        Ok(())
    }

    fn value(&self, value: &Value) -> Result<i64> {
        match value {
            Value::Number(number) => Ok(*number),
            Value::Named(name, line) => self.constants.get(name).copied().ok_or_else(|| {
                Error::new(*line, format!("the constant {name} is not defined yet"))
            }),
        }
    }

    /// The number of elements or bytes.
    fn bound(&self, value: &Value, line: u32) -> Result<u64> {
        match self.value(value)? {
            number @ 1.. => Ok(number.unsigned_abs()),
            number => Err(Error::new(line, format!("{number} is no length"))),
        }
    }

    fn unsigned(&self, value: &Value, line: u32) -> Result<u32> {
        let number = self.value(value)?;
        u32::try_from(number)
            .map_err(|_| Error::new(line, format!("{number} is no number of 32 bits")))
    }
}

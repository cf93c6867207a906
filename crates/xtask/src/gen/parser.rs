//! Tokens to the items of an interface file: the grammar of RFC 4506 section 6 and RFC 5531 section 12, in the part
//! that rpcgen accepts too (no types declared inside of declarations). Runs in `cargo xtask gen`.

use super::error::{Error, Result};
use super::lexer::{Token, Tokens};

/// A name with what is said about it.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) line: u32,
    pub(super) doc: Option<String>,
}

/// A number or the name of one.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Number(i64),
    Named(String, u32),
}

/// A type without its dimensions.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    Void,
    /// The Rust type that is the same: `u32`, `i64`, `bool`, ...
    Primitive(&'static str),
    String,
    Opaque,
    Named(String),
}

/// What a declaration makes of its type.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Plain,
    Optional,
    Fixed(Value),
    /// None: without a bound, `<>`.
    Variable(Option<Value>),
}

/// `type name`, `type name[n]`, `type name<n>`, `type *name`, `void`.
#[derive(Clone, Debug)]
pub(super) struct Declaration {
    pub(super) name: Name,
    pub(super) base: Base,
    pub(super) shape: Shape,
}

/// Cases of a union that have the same arm.
#[derive(Clone, Debug)]
pub(super) struct Arm {
    /// Empty: `default`.
    pub(super) cases: Vec<(Value, Name)>,
    pub(super) content: Declaration,
}

/// A procedure, with the types as they are written.
#[derive(Clone, Debug)]
pub(super) struct Procedure {
    pub(super) name: Name,
    pub(super) arguments: Vec<Base>,
    pub(super) result: Base,
    pub(super) number: Value,
}

/// A version of a program, with its procedures in the order of the file.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) name: Name,
    pub(super) procedures: Vec<Procedure>,
    pub(super) number: Value,
}

/// What a definition defines.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Const(Value),
    Enum(Vec<(Name, Value)>),
    Struct(Vec<Declaration>),
    Union {
        switch: Declaration,
        arms: Vec<Arm>,
    },
    Typedef(Declaration),
    Program {
        versions: Vec<Version>,
        number: Value,
    },
}

/// An item and its name.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) name: Name,
    pub(super) kind: Kind,
}

/// All items of the file, in its order.
pub(super) fn parse(tokens: Tokens) -> Result<Vec<Item>> {
    let mut parser = Parser { tokens, at: 0 };
    let mut items = Vec::new();
    while parser.peek().is_some() {
        items.push(parser.item()?);
    }
    Ok(items)
}

struct Parser {
    tokens: Tokens,
    at: usize,
}

impl Parser {
    fn item(&mut self) -> Result<Item> {
        let first = self.line();
        let (mut name, kind) = match self.word()?.as_str() {
            "const" => {
                let name = self.name()?;
                self.sign('=')?;
                (name, Kind::Const(self.value()?))
            }
            "enum" => (self.name()?, Kind::Enum(self.enum_body()?)),
            "struct" => (self.name()?, Kind::Struct(self.struct_body()?)),
            "union" => (self.name()?, self.union_body()?),
            "typedef" => {
                let declaration = self.declaration()?;
                (declaration.name.clone(), Kind::Typedef(declaration))
            }
            "program" => (self.name()?, self.program_body()?),
            other => return Err(self.error(format!("{other:?} begins no definition"))),
        };
        self.sign(';')?;
        name.doc = self.doc(first, first == self.last_line());
        Ok(Item { name, kind })
    }

    fn enum_body(&mut self) -> Result<Vec<(Name, Value)>> {
        self.sign('{')?;
        let mut values = Vec::new();
        loop {
            let first = self.line();
            let mut name = self.name()?;
            self.sign('=')?;
            let value = self.value()?;
            let more = self.accept(',');
            name.doc = self.doc(first, true);
            values.push((name, value));
            if !more || self.peek() == Some(&Token::Sign('}')) {
                self.sign('}')?;
                return Ok(values);
            }
        }
    }

    fn struct_body(&mut self) -> Result<Vec<Declaration>> {
        self.sign('{')?;
        let mut fields = Vec::new();
        while !self.accept('}') {
            fields.push(self.documented_declaration()?);
        }
        Ok(fields)
    }

    /// A declaration that ends with a semicolon and may have a comment.
    fn documented_declaration(&mut self) -> Result<Declaration> {
        let first = self.line();
        let mut declaration = self.declaration()?;
        self.sign(';')?;
        declaration.name.doc = self.doc(first, true);
        Ok(declaration)
    }

    fn union_body(&mut self) -> Result<Kind> {
        self.keyword("switch")?;
        self.sign('(')?;
        let switch = self.declaration()?;
        self.sign(')')?;
        self.sign('{')?;
        let mut arms = Vec::new();
        while !self.accept('}') {
            let mut cases = Vec::new();
            let default = loop {
                let first = self.line();
                match self.word()?.as_str() {
                    "case" => {
                        let line = self.line();
                        let value = self.value()?;
                        let text = match &value {
                            Value::Named(text, _) => text.clone(),
                            Value::Number(number) => number.to_string(),
                        };
                        self.sign(':')?;
                        let doc = self.doc(first, true);
                        cases.push((value, Name { text, line, doc }));
                    }
                    "default" => {
                        self.sign(':')?;
                        break true;
                    }
                    other => {
                        return Err(self.error(format!("expected case or default, not {other:?}")));
                    }
                }
                if self.peek() != Some(&Token::Word("case".into())) {
                    break false;
                }
            };
            if default && !cases.is_empty() {
                return Err(self.error("default cannot be joined with a case"));
            }
            arms.push(Arm {
                cases,
                content: self.documented_declaration()?,
            });
        }
        Ok(Kind::Union { switch, arms })
    }

    fn program_body(&mut self) -> Result<Kind> {
        self.sign('{')?;
        let mut versions = Vec::new();
        while !self.accept('}') {
            let first = self.line();
            self.keyword("version")?;
            let mut name = self.name()?;
            name.doc = self.doc(first, false);
            self.sign('{')?;
            let mut procedures = Vec::new();
            while !self.accept('}') {
                procedures.push(self.procedure()?);
            }
            self.sign('=')?;
            let number = self.value()?;
            self.sign(';')?;
            versions.push(Version {
                name,
                procedures,
                number,
            });
        }
        self.sign('=')?;
        Ok(Kind::Program {
            versions,
            number: self.value()?,
        })
    }

    fn procedure(&mut self) -> Result<Procedure> {
        let first = self.line();
        let result = self.base()?;
        let mut name = self.name()?;
        self.sign('(')?;
        let mut arguments = Vec::new();
        loop {
            arguments.push(self.base()?);
            if !self.accept(',') {
                break;
            }
        }
        self.sign(')')?;
        self.sign('=')?;
        let number = self.value()?;
        self.sign(';')?;
        name.doc = self.doc(first, true);
        arguments.retain(|argument| *argument != Base::Void);
        Ok(Procedure {
            name,
            arguments,
            result,
            number,
        })
    }

    fn declaration(&mut self) -> Result<Declaration> {
        let base = self.base()?;
        if base == Base::Void {
            let name = Name {
                text: String::new(),
                line: self.line(),
                doc: None,
            };
            return Ok(Declaration {
                name,
                base,
                shape: Shape::Plain,
            });
        }
        let optional = self.accept('*');
        let name = self.name()?;
        let shape = if optional {
            Shape::Optional
        } else if self.accept('[') {
            let size = self.value()?;
            self.sign(']')?;
            Shape::Fixed(size)
        } else if self.accept('<') {
            let bound = if self.peek() == Some(&Token::Sign('>')) {
                None
            } else {
                Some(self.value()?)
            };
            self.sign('>')?;
            Shape::Variable(bound)
        } else {
            Shape::Plain
        };
        Ok(Declaration { name, base, shape })
    }

    fn base(&mut self) -> Result<Base> {
        let word = self.word()?;
        Ok(match word.as_str() {
            "void" => Base::Void,
            "bool" => Base::Primitive("bool"),
            "int" => Base::Primitive("i32"),
            "hyper" => Base::Primitive("i64"),
            "float" => Base::Primitive("f32"),
            "double" => Base::Primitive("f64"),
            "string" => Base::String,
            "opaque" => Base::Opaque,
            "unsigned" => match self.peek() {
                Some(Token::Word(next)) if next == "hyper" => {
                    self.at += 1;
                    Base::Primitive("u64")
                }
                Some(Token::Word(next)) if next == "int" => {
                    self.at += 1;
                    Base::Primitive("u32")
                }
                _ => Base::Primitive("u32"),
            },
            "quadruple" => return Err(self.error("quadruple has no Rust type")),
            // `struct x` names the struct x, as in C.
            "struct" | "union" | "enum" => match self.peek() {
                Some(Token::Word(_)) => Base::Named(self.word()?),
                _ => return Err(self.error("declare the type on its own and name it here")),
            },
            _ => Base::Named(word),
        })
    }

    fn value(&mut self) -> Result<Value> {
        let line = self.line();
        match self.next()? {
            Token::Number(number) => Ok(Value::Number(number)),
            Token::Word(name) => Ok(Value::Named(name, line)),
            Token::Sign(sign) => Err(Error::new(
                line,
                format!("expected a number or constant, not '{sign}'"),
            )),
        }
    }

    fn name(&mut self) -> Result<Name> {
        let line = self.line();
        Ok(Name {
            text: self.word()?,
            line,
            doc: None,
        })
    }

    fn keyword(&mut self, wanted: &str) -> Result<()> {
        let line = self.line();
        let word = self.word()?;
        if word == wanted {
            Ok(())
        } else {
            Err(Error::new(line, format!("expected {wanted}, not {word:?}")))
        }
    }

    fn word(&mut self) -> Result<String> {
        let line = self.line();
        match self.next()? {
            Token::Word(word) => Ok(word),
            Token::Number(number) => {
                Err(Error::new(line, format!("expected a name, not {number}")))
            }
            Token::Sign(sign) => Err(Error::new(line, format!("expected a name, not '{sign}'"))),
        }
    }

    fn sign(&mut self, wanted: char) -> Result<()> {
        if self.accept(wanted) {
            Ok(())
        } else {
            Err(self.error(format!("'{wanted}' is missing")))
        }
    }

    fn accept(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(&Token::Sign(wanted));
        self.at += usize::from(found);
        found
    }

    fn next(&mut self) -> Result<Token> {
        let token = self
            .peek()
            .cloned()
            .ok_or_else(|| self.error("the file ends too early"))?;
        self.at += 1;
        Ok(token)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.tokens.get(self.at).map(|(token, _)| token)
    }

    /// Line of the next token.
    fn line(&self) -> u32 {
        let token = self
            .tokens
            .tokens
            .get(self.at)
            .or(self.tokens.tokens.last());
        token.map_or(1, |(_, line)| *line)
    }

    /// Line of the token taken last.
    fn last_line(&self) -> u32 {
        self.tokens
            .tokens
            .get(self.at.saturating_sub(1))
            .map_or(1, |(_, line)| *line)
    }

    /// What is said about something that began in line `first` and has just been read.
    fn doc(&self, first: u32, behind: bool) -> Option<String> {
        self.tokens
            .doc(first, if behind { self.last_line() } else { 0 })
    }

    fn error(&self, text: impl Into<String>) -> Error {
        Error::new(self.line(), text)
    }
}

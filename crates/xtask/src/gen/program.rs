//! The programs of an interface to Rust: numbers, table of procedures, client, server trait and dispatch. Runs in
//! `cargo xtask gen`.

use std::collections::BTreeSet;

use super::check::{Call, Interface, Model, Type};
use super::emit::{camel, decoder, error_type, field_name, markdown, pack, put, rust_type, unpack};
use super::parser::Name;

/// Everything for the program `name`.
pub(super) fn emit(
    out: &mut String,
    model: &Model,
    name: &Name,
    number: u32,
    interfaces: &[Interface],
) {
    put(
        out,
        format_args!(
            "/// Number of the program {0}.\npub const {0}: u32 = {number:#010x};\n\n",
            name.text
        ),
    );
    for interface in interfaces {
        table(out, interface);
        client(out, &name.text, interface);
        service(out, interface);
        partial(out, model, interface);
        dispatch(out, &name.text, interface);
        serve(out, interface);
    }
}

fn table(out: &mut String, interface: &Interface) {
    let name = &interface.name.text;
    let max = interface
        .calls
        .iter()
        .map(|call| call.max_arguments)
        .max()
        .unwrap_or(0);
    put(
        out,
        format_args!(
            "/// Number of the version {name}.
pub const {name}: u32 = {};

/// Size of the largest arguments of a call of {name}, in bytes.
pub const {name}_MAX_ARGS: usize = {max};

/// The procedures of {name}, in the order of the file.
pub const {name}_PROCEDURES: &[Procedure] = &[
",
            interface.number
        ),
    );
    for call in &interface.calls {
        let doc = call
            .name
            .doc
            .as_deref()
            .unwrap_or_default()
            .replace('\n', " ");
        put(
            out,
            format_args!(
                "Procedure {{ number: {}, name: {:?}, doc: {doc:?}, max_args: {}, max_result: {} }},\n",
                call.number, call.name.text, call.max_arguments, call.max_result
            ),
        );
    }
    put(out, format_args!("];\n\n"));
}

fn client(out: &mut String, program: &str, interface: &Interface) {
    let (name, ty) = (&interface.name.text, camel(&interface.name.text));
    put(
        out,
        format_args!(
            "/// Calls the procedures of {name}: `x` and waits for the result, or `send_x` and takes the result later.
#[derive(Debug)]
pub struct {ty}Client<S> {{
    /// The connection: reads replies to what has been sent.
    pub rpc: Client<S>,
}}

impl<S: Stream> {ty}Client<S> {{
    /// A client on a connected stream.
    pub fn new(stream: S) -> Self {{
        Self {{ rpc: Client::new(stream, {program}, {name}) }}
    }}
"
        ),
    );
    for call in &interface.calls {
        let method = call.name.text.to_ascii_lowercase();
        let (mut parameters, mut passed, mut packs) = (String::new(), String::new(), String::new());
        for (argument, ty) in arguments(call) {
            let (borrowed, reference) = borrowed_type(ty);
            put(&mut parameters, format_args!(", {argument}: {borrowed}"));
            put(&mut passed, format_args!("{argument}, "));
            put(
                &mut packs,
                format_args!("{}?;\n", pack(ty, &argument, reference)),
            );
        }
        let (packer, body) = if packs.is_empty() {
            ("_", String::from("Ok(())"))
        } else {
            ("out", format!("{{ {packs} Ok(()) }}"))
        };
        let (result, number, max, decode) = (
            rust_type(&call.result),
            call.number,
            call.max_result,
            decoder(&call.result),
        );
        put(
            out,
            format_args!(
                "
    {doc}
    pub fn {plain}(&mut self{parameters}) -> std::result::Result<{result}, ClientError> {{
        let ticket = self.send_{method}({passed})?;
        self.rpc.wait(ticket)
    }}

    /// Sends {upper} without waiting for its result.
    pub fn send_{method}(&mut self{parameters}) -> std::result::Result<Ticket<{result}>, ClientError> {{
        self.rpc.send({number}, {max}, |{packer}| {body}, {decode})
    }}
",
                doc = documentation(call),
                plain = field_name(&method),
                upper = call.name.text,
            ),
        );
    }
    put(out, format_args!("}}\n\n"));
}

fn service(out: &mut String, interface: &Interface) {
    let (name, ty) = (&interface.name.text, camel(&interface.name.text));
    put(
        out,
        format_args!(
            "/// What a server of {name} does. Procedure 0 is answered without it. `Session` is whatever the server keeps
/// for a connection; it is dropped when the connection has ended. A call of a connection that ends is dropped where
/// it waits.
#[cfg(feature = \"server\")]
#[allow(async_fn_in_trait, reason = \"all calls run on one thread, nothing has to be Send\")]
pub trait {ty} {{
    /// State of a connection.
    type Session: 'static;
"
        ),
    );
    for call in served(interface) {
        let (doc, signature) = (documentation(call), signature(call));
        put(out, format_args!("\n{doc}\n{signature};\n"));
    }
    put(out, format_args!("}}\n\n"));
}

/// A server for tests, if all results have the same error: what it does not carry out it refuses.
fn partial(out: &mut String, model: &Model, interface: &Interface) {
    let errors: BTreeSet<Option<String>> = served(interface)
        .map(|call| error_type(model, &call.result))
        .collect();
    let (1, Some(Some(error))) = (errors.len(), errors.first()) else {
        return;
    };
    let (name, ty) = (&interface.name.text, camel(&interface.name.text));
    let (mut refusals, mut passed_on) = (String::new(), String::new());
    for call in served(interface) {
        let names: Vec<String> = arguments(call).map(|(argument, _)| argument).collect();
        let (shown, passed) = match names.as_slice() {
            [] => ("()".to_owned(), String::new()),
            [only] => (only.clone(), format!(", {only}")),
            _ => (
                format!("({})", names.join(", ")),
                format!(", {}", names.join(", ")),
            ),
        };
        let (signature, result) = (signature(call), rust_type(&call.result));
        let (upper, method) = (&call.name.text, field_name(&call.name.text));
        put(
            &mut refusals,
            format_args!(
                "
    /// Refuses {upper}.
    {signature} {{
        let _ = session;
        {result}::Error(self.refusal(\"{upper}\", &{shown}))
    }}
"
            ),
        );
        put(
            &mut passed_on,
            format_args!("{signature} {{ Partial{ty}::{method}(self, session{passed}).await }}\n"),
        );
    }
    put(
        out,
        format_args!(
            "/// A server of {name} for tests: it carries out the procedures whose methods it has, and refuses the others.
#[cfg(feature = \"server\")]
#[allow(async_fn_in_trait, reason = \"all calls run on one thread, nothing has to be Send\")]
pub trait Partial{ty} {{
    /// State of a connection.
    type Session: 'static;

    /// What is answered to a call that is refused; `args` are its decoded arguments.
    fn refusal(&self, procedure: &'static str, args: &dyn std::fmt::Debug) -> {error};
    {refusals}
}}

#[cfg(feature = \"server\")]
impl<T: Partial{ty}> {ty} for T {{
    type Session = <T as Partial{ty}>::Session;
    {passed_on}
}}

"
        ),
    );
}

/// The procedures that a server carries out itself.
fn served(interface: &Interface) -> impl Iterator<Item = &Call> {
    interface.calls.iter().filter(|call| call.number != 0)
}

/// The method of a server, without its body.
fn signature(call: &Call) -> String {
    let method = field_name(&call.name.text);
    let parameters: String = arguments(call)
        .map(|(argument, ty)| format!(", {argument}: {}", rust_type(ty)))
        .collect();
    let result = match &call.result {
        Type::Void => String::new(),
        result => format!(" -> {}", rust_type(result)),
    };
    format!("async fn {method}(&self, session: &Self::Session{parameters}){result}")
}

fn dispatch(out: &mut String, program: &str, interface: &Interface) {
    let (name, ty) = (&interface.name.text, camel(&interface.name.text));
    let owned = match interface.calls.as_slice() {
        calls if calls.iter().all(|call| call.number == 0) => "let _ = (service, session);",
        _ => "let (service, session) = (Rc::clone(service), Rc::clone(session));",
    };
    put(
        out,
        format_args!(
            "/// {name} as the server sees it: which numbers it has and how its calls are decoded.
#[cfg(feature = \"server\")]
#[derive(Debug)]
pub struct {ty}Program;

#[cfg(feature = \"server\")]
impl<S: {ty} + 'static> crate::server::Program<S> for {ty}Program {{
    type Session = S::Session;
    const NUMBER: u32 = {program};
    const VERSION: u32 = {name};

    fn dispatch(
        service: &Rc<S>,
        session: &Rc<S::Session>,
        mut call: crate::server::Call<'_>,
    ) -> std::result::Result<crate::server::Answer, crate::server::Reject> {{
        {owned}
        match call.procedure() {{
"
        ),
    );
    if !interface.calls.iter().any(|call| call.number == 0) {
        // RFC 5531 section 12: every program has it.
        put(
            out,
            format_args!(
                "0 => {{ call.arguments(0, |_| Ok(()))?; Ok(call.answer(async {{}}, |(), _| Ok(()))) }}\n"
            ),
        );
    }
    for call in &interface.calls {
        dispatch_arm(out, call);
    }
    put(
        out,
        format_args!("_ => Err(crate::server::Reject::ProcedureUnavailable),\n}}\n}}\n}}\n\n"),
    );
}

/// Decodes the arguments of one procedure, calls the service, encodes the result.
fn dispatch_arm(out: &mut String, call: &Call) {
    let names: Vec<String> = arguments(call).map(|(argument, _)| argument).collect();
    let decoded: Vec<String> = call
        .arguments
        .iter()
        .map(|ty| format!("{}?", unpack(ty)))
        .collect();
    let decode = match call.arguments.as_slice() {
        [] => "|_| Ok(())".into(),
        [only] => decoder(only),
        _ => format!("|input| Ok(({}))", decoded.join(", ")),
    };
    let binding = match names.as_slice() {
        [] => String::new(),
        [only] => format!("let {only} = "),
        _ => format!("let ({}) = ", names.join(", ")),
    };
    let packed = match &call.result {
        Type::Void => "|(), _| Ok(())".into(),
        result => format!("|result, out| {}", pack(result, "result", true)),
    };
    let passed: String = names
        .iter()
        .map(|argument| format!(", {argument}"))
        .collect();
    let run = if call.number == 0 {
        "async {}".into()
    } else {
        format!(
            "async move {{ service.{}(&session{passed}).await }}",
            field_name(&call.name.text)
        )
    };
    put(
        out,
        format_args!(
            "{} => {{ {binding}call.arguments({}, {decode})?; Ok(call.answer({run}, {packed})) }}\n",
            call.number, call.max_arguments
        ),
    );
}

fn serve(out: &mut String, interface: &Interface) {
    let (name, ty) = (&interface.name.text, camel(&interface.name.text));
    let lower = name.to_ascii_lowercase();
    put(
        out,
        format_args!(
            "/// Limits of a connection that serves {name}.
#[cfg(feature = \"server\")]
pub const {name}_LIMITS: crate::server::Limits = crate::server::Limits::new({name}_MAX_ARGS);

/// Serves {name} on a connected stream until it ends; see [`crate::server::serve`].
#[cfg(feature = \"server\")]
pub async fn serve_{lower}<S, IO>(
    stream: IO,
    service: Rc<S>,
    session: S::Session,
    limits: crate::server::Limits,
) -> std::result::Result<(), crate::server::ServeError>
where
    S: {ty} + 'static,
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{{
    crate::server::serve::<{ty}Program, S, IO>(stream, service, session, limits).await
}}

"
        ),
    );
}

/// The arguments of a call with names for them.
fn arguments(call: &Call) -> impl Iterator<Item = (String, &Type)> {
    let single = call.arguments.len() == 1;
    call.arguments.iter().enumerate().map(move |(index, ty)| {
        (
            if single {
                "args".to_owned()
            } else {
                format!("arg{}", index + 1)
            },
            ty,
        )
    })
}

/// How a client passes an argument, and whether that is by reference.
fn borrowed_type(ty: &Type) -> (String, bool) {
    match ty.resolved() {
        Type::Text(_) => ("&str".into(), true),
        Type::Opaque(_) => ("&[u8]".into(), true),
        Type::List(inner, _) => (format!("&[{}]", rust_type(inner)), true),
        Type::Primitive(name) => ((*name).to_owned(), false),
        _ => (format!("&{}", rust_type(ty)), true),
    }
}

/// What is said about a call, as lines of documentation.
fn documentation(call: &Call) -> String {
    let said = call
        .name
        .doc
        .as_deref()
        .map_or_else(|| format!("`{}`.", call.name.text), markdown);
    said.lines()
        .map(|line| format!("/// {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

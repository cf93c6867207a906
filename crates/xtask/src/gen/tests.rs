//! What the generator makes of the language and what it refuses. That its output compiles and works is tested in
//! crates/rpc-xdr with `kit.x`.

use super::translate;

fn refusal(text: &str) -> String {
    translate("x.x", "x", text)
        .expect_err("this must be refused")
        .to_string()
}

fn rust(text: &str) -> String {
    let (types, programs) = translate("x.x", "x", text).unwrap();
    types + &programs
}

#[test]
fn what_a_peer_could_abuse_is_refused_with_its_line() {
    let cases = [
        (
            "typedef int a<4>;\ntypedef opaque b<>;",
            "x.x:2: b<> has no bound",
        ),
        ("struct a {\n    string s<>;\n};", "x.x:2: s<> has no bound"),
        ("struct a { int x<>; };", "x.x:1: x<> has no bound"),
        (
            "struct a {\n    int x;\n    a *next;\n};",
            "x.x:3: the type a is not defined yet",
        ),
        (
            "union a switch (bool more) {\ncase TRUE:\n    a next<2>;\ncase FALSE:\n    void;\n};",
            "x.x:3: the type a",
        ),
        (
            "typedef opaque a<4000000000>;",
            "x.x:1: a can be larger than a record",
        ),
        (
            "typedef int a<60000>;\ntypedef a b<60000>;",
            "x.x:2: b can be larger than a record",
        ),
        ("typedef int a[0];", "x.x:1: 0 is no length"),
    ];
    for (text, expected) in cases {
        let said = refusal(text);
        assert!(said.starts_with(expected), "{text}\n{said}");
    }
}

#[test]
fn numbers_and_names_are_used_once() {
    let program = |procedures: &str| {
        refusal(&format!(
            "program P {{ version V {{\n{procedures} }} = 1; }} = 9;"
        ))
    };
    assert_eq!(
        program("void A(void) = 1;\nvoid B(void) = 1;"),
        "x.x:3: the procedure number 1 is used twice"
    );
    assert_eq!(
        program("void A(void) = 1;\nvoid A(void) = 2;"),
        "x.x:3: A is defined twice"
    );
    assert_eq!(
        program("int A(void) = 0;"),
        "x.x:2: procedure 0 takes and gives nothing (RFC 5531)"
    );
    assert_eq!(
        program("void A(string) = 1;"),
        "x.x:2: give this string or opaque a name by a typedef"
    );
    assert_eq!(
        refusal("enum a { X = 1,\nY = 1 };"),
        "x.x:2: the value 1 is used twice"
    );
    assert_eq!(
        refusal("const a = 1;\nconst a = 2;"),
        "x.x:2: a is defined twice"
    );
    assert_eq!(
        refusal("typedef int a_b;\ntypedef int A_B;"),
        "x.x:2: A_B is defined twice"
    );
    assert_eq!(
        refusal("struct a { int x;\nint x; };"),
        "x.x:2: \"x\" cannot be a field here"
    );
}

#[test]
fn unions_must_make_sense() {
    let color = "enum color { RED = 0, BLUE = 1 };\n";
    let union = |switch: &str, arms: &str| {
        refusal(&format!(
            "{color}union u switch ({switch} x) {{\n{arms} }};"
        ))
    };
    assert_eq!(
        union("color", "case GREEN: int a;"),
        "x.x:3: GREEN is no value of what is switched on"
    );
    assert_eq!(
        union("int", "case 1: int a;\ncase 1: void;"),
        "x.x:4: there are two arms for 1"
    );
    assert_eq!(
        union("color", "case RED: void; case BLUE: void; default: int a;"),
        "x.x:2: the default arm can never be chosen"
    );
    assert_eq!(
        union("hyper", "case 1: void;"),
        "x.x:2: a union switches on an int, a bool or an enum"
    );
    assert_eq!(
        union("int", "default: void; default: void;"),
        "x.x:2: there are two default arms"
    );
}

#[test]
fn mistakes_are_named() {
    assert_eq!(refusal("const a = 1"), "x.x:1: ';' is missing");
    assert_eq!(refusal("\n\nstruct a {"), "x.x:3: the file ends too early");
    assert_eq!(refusal("/* no end"), "x.x:1: this comment has no end");
    assert_eq!(
        refusal("#include <x>"),
        "x.x:1: lines for the C preprocessor are not understood"
    );
    assert_eq!(refusal("const a = 09;"), "x.x:1: \"09\" is not a number");
    assert_eq!(
        refusal("typedef struct { int x; } a;"),
        "x.x:1: declare the type on its own and name it here"
    );
    assert_eq!(
        refusal("typedef int a[N];"),
        "x.x:1: the constant N is not defined yet"
    );
}

#[test]
fn comments_become_documentation() {
    let text = "\
/* The header belongs to nothing. */

/*
 * Before the <type>,
 * in two lines.
 */
struct a {
    int x;      /* behind the field */
    int y;
    int z;      /* behind z,
                   and further */
};
/* ---- a heading ---- */

enum b {
    /* before the value */
    B_ONE = 1,
    B_TWO = 2   /* behind the last */
};
program P { version V {
    /* Says \"hello\". */
    void HELLO(void) = 1;
} = 1; } = 010;
";
    let rust = rust(text);
    for expected in [
        "/// Before the \\<type\\>,\n/// in two lines.\n#[derive(Debug, Clone, PartialEq)]\npub struct A",
        "/// behind the field\npub x: i32",
        "/// `y`\npub y: i32",
        "/// behind z,\n/// and further\npub z: i32",
        "/// `enum b`\n",
        "/// before the value\nOne = 1",
        "/// behind the last\nTwo = 2",
        "doc: \"Says \\\"hello\\\".\"",
        "pub const P: u32 = 0x00000008",
    ] {
        assert!(rust.contains(expected), "{expected:?} is not in\n{rust}");
    }
    assert!(!rust.contains("header") && !rust.contains("heading"));
}

#[test]
fn sizes_follow_from_the_bounds() {
    let rust = rust(
        "typedef opaque data<5>;
         struct pair { hyper a; data *b; };
         union u switch (int x) { case 1: pair p[2]; default: void; };
         program P { version V { pair A(u, data) = 1; } = 1; } = 9;",
    );
    // data: 4 + 8; pair: 8 + 4 + 12; u: 4 + 2 * 24.
    assert!(rust.contains("max_args: 64, max_result: 24"), "{rust}");
}

#[test]
fn lines_for_rpcgen_are_skipped() {
    assert!(rust("%#include \"x.h\"\nconst a = -3;").contains("pub const a: i64 = -3;"));
}

#[test]
fn committed_files_are_current() {
    super::run(true).unwrap();
}

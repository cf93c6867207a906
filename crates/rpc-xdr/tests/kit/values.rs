//! Encoding and decoding: the bytes of RFC 4506, everything there and back, what must be refused.

use proptest::prelude::*;
use rpc_xdr::xdr::{
    Pack, Result, Strict, Unpack, pack_list, pack_opaque, pack_string, take, unpack_list,
    unpack_opaque, unpack_string,
};

use crate::kit::*;

pub(crate) fn encode<T: Pack>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.pack(&mut out).unwrap();
    assert_eq!(out.len() % 4, 0);
    out
}

pub(crate) fn decode<T: Unpack>(bytes: &[u8]) -> Result<T> {
    let mut input = Strict::new(bytes);
    let value = take(&mut input)?;
    input.finish()?;
    Ok(value)
}

fn with(pack: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Vec<u8> {
    let mut out = Vec::new();
    pack(&mut out).unwrap();
    out
}

#[test]
fn the_bytes_of_rfc_4506() {
    // Section 7, the file "sillyprog" of the user john.
    #[rustfmt::skip]
    let example = [
        0, 0, 0, 9, b's', b'i', b'l', b'l', b'y', b'p', b'r', b'o', b'g', 0, 0, 0,
        0, 0, 0, 2,
        0, 0, 0, 4, b'l', b'i', b's', b'p',
        0, 0, 0, 4, b'j', b'o', b'h', b'n',
        0, 0, 0, 6, b'(', b'q', b'u', b'i', b't', b')', 0, 0,
    ];
    let encoded = with(|out| {
        pack_string("sillyprog", 255, out)?;
        2u32.pack(out)?;
        pack_string("lisp", 255, out)?;
        pack_string("john", 32, out)?;
        pack_opaque(b"(quit)", 65535, out)
    });
    assert_eq!(encoded, example);
    // Sections 4.1 to 4.19.
    assert_eq!(encode(&-2i32), [0xff, 0xff, 0xff, 0xfe]);
    assert_eq!(encode(&0x0102_0304_0506_0708u64), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(encode(&KitColor::Blue), [0xff, 0xff, 0xff, 0xfd]);
    assert_eq!(encode(&1.0f32), [0x3f, 0x80, 0, 0]);
    assert_eq!(
        encode(&KitDefault::Red(-1)),
        [0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255]
    );
    assert_eq!(
        encode(&KitDefault::Default(KitColor::Blue, *b"abcde")),
        *b"\xff\xff\xff\xfdabcde\0\0\0"
    );
    assert_eq!(
        encode(&KitFlag::True([1, 2])),
        [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2]
    );
    assert_eq!(encode(&KitRest::Default(9)), [0, 0, 0, 9]);
    let list = with(|out| pack_list(&[1u32, 2], 2, out, |item, out| item.pack(out)));
    assert_eq!(list, [0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
}

#[test]
fn what_is_not_right_is_refused() {
    let opaque = |bytes: &[u8], max| unpack_opaque(&mut Strict::new(bytes), max);
    assert!(
        opaque(b"\0\0\0\x64onlysome", 65536).is_err(),
        "less than announced"
    );
    assert!(
        opaque(b"\xff\xff\xff\xffabcd", 65536).is_err(),
        "4 G announced"
    );
    assert!(
        opaque(b"\0\0\0\x05abcde\0\0\0", 4).is_err(),
        "above the bound"
    );
    assert!(opaque(b"\0\0\0\x02ab", 4).is_err(), "padding is missing");
    assert!(
        opaque(b"\0\0\0\x02ab\0\x01", 4).is_err(),
        "padding is not zero"
    );
    assert!(
        unpack_string(&mut Strict::new(b"\0\0\0\x02a\xe4\0\0"), 4).is_err(),
        "not UTF-8"
    );
    let list = |bytes: &[u8]| unpack_list(&mut Strict::new(bytes), usize::MAX, take::<u32>);
    assert!(
        list(b"\xff\xff\xff\xff\0\0\0\0").is_err(),
        "4 G elements announced, one there"
    );
    assert!(
        decode::<bool>(&[0, 0, 0, 2]).is_err(),
        "neither true nor false"
    );
    assert!(decode::<u32>(&[0, 0, 0]).is_err(), "too short");
    assert!(decode::<u32>(&[0, 0, 0, 0, 0]).is_err(), "too long");
    assert!(decode::<KitColor>(&[0, 0, 0, 3]).is_err(), "no such value");
    assert!(decode::<KitOpen>(&[0, 0, 0, 3]).is_err(), "no such case");
    assert!(
        decode::<KitDefault>(&[0, 0, 0, 9]).is_err(),
        "default is not for values the enum has not"
    );
    assert!(
        decode::<KitDefault>(b"\xff\xff\xff\xfdabc").is_err(),
        "fixed data too short"
    );
}

#[test]
fn what_exceeds_a_bound_is_not_sent() {
    let mut out = Vec::new();
    assert!(pack_string("12345", 4, &mut out).is_err());
    assert!(pack_list(&[1u32; 3], 2, &mut out, |item, out| item.pack(out)).is_err());
    let confusing = KitDefault::Default(KitColor::Green, [0; 5]);
    assert!(
        confusing.pack(&mut out).is_err(),
        "green has an arm of its own"
    );
}

fn name() -> impl Strategy<Value = KitName> {
    "[a-zäß€]{0,3}"
}

fn color() -> impl Strategy<Value = KitColor> {
    prop_oneof![
        Just(KitColor::Red),
        Just(KitColor::Green),
        Just(KitColor::Blue)
    ]
}

prop_compose! {
    fn unions()(
        by_default in prop_oneof![
            any::<i64>().prop_map(KitDefault::Red),
            Just(KitDefault::Green),
            any::<KitId>().prop_map(|id| KitDefault::Default(KitColor::Blue, id)),
        ],
        rest in prop_oneof![
            prop::collection::vec(name(), 0..=2).prop_map(KitRest::Case1),
            prop::collection::vec(name(), 0..=2).prop_map(KitRest::KitSize),
            (4u32..).prop_map(KitRest::Default),
        ],
        flag in prop_oneof![any::<KitPair>().prop_map(KitFlag::True), Just(KitFlag::False)],
        open in prop_oneof![any::<f32>().prop_map(KitOpen::CaseMinus1), any::<f64>().prop_map(KitOpen::Case7)],
    ) -> (KitDefault, KitRest, KitFlag, KitOpen) {
        (by_default, rest, flag, open)
    }
}

prop_compose! {
    pub(crate) fn all()(
        id in any::<KitId>(),
        names in prop::collection::vec(name(), 0..=2),
        pair in any::<Option<KitPair>>(),
        four in prop::array::uniform4(name()),
        colors in prop::collection::vec(color(), 0..=3),
        (by_default, rest, flag, open) in unions(),
        r#async in any::<u32>(),
        self_ in any::<u64>(),
        bits in any::<[u8; 3]>(),
        r#type in "[a-z]{0,4}",
    ) -> KitAll {
        KitAll { id, names, pair, four, colors, by_default, rest, flag, open, r#async, self_, bits, r#type }
    }
}

proptest! {
    #[test]
    fn everything_comes_back(value in all()) {
        let bytes = encode(&value);
        prop_assert_eq!(bytes.len() % 4, 0);
        let most = KIT_V1_PROCEDURES.iter().find(|it| it.name == "KIT_ECHO").unwrap().max_args;
        prop_assert!(bytes.len() <= most);
        prop_assert_eq!(decode::<KitAll>(&bytes).unwrap(), value);
    }
}

#[test]
fn the_largest_value_has_the_computed_size() {
    let (name, most) = ("123456789".to_owned(), KIT_V1_PROCEDURES[0].max_result);
    let value = KitAll {
        id: [1; 5],
        names: vec![name.clone(); 2],
        pair: Some([1, 2]),
        four: std::array::from_fn(|_| name.clone()),
        colors: vec![KitColor::Red; 3],
        by_default: KitDefault::Red(1),
        rest: KitRest::Case1(vec![name; 2]),
        flag: KitFlag::True([1, 2]),
        open: KitOpen::Case7(1.0),
        r#async: 1,
        self_: 1,
        bits: [1; 3],
        r#type: "1234".into(),
    };
    assert_eq!(encode(&value).len(), most);
}

//! Plain data as JSON and back, for recordings: what the engine is told, what it answers, all that
//! it is.
//!
//! Not serde's derive: a hundred types would weigh 300 KB with it. A type is listed here once with
//! its fields or variants, by which both directions are written; a list that lacks one does not
//! compile. What has serde's form anyway, since it is journalled or shown, is taken in that form.
//!
//! What is written once for many types is kept from being copied into each (`inline(never)`).
//!
//! Invariant: what is put is taken back equal. A key that is missing is taken as `null`, so that
//! an `Option` that is new does not make older recordings unreadable.

mod checkpoint;
mod config;
mod event;
mod state;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// The key or type that could not be understood.
pub type Bad = &'static str;
pub type Taken<T> = Result<T, Bad>;

pub trait Put {
    fn put(&self, out: &mut Vec<u8>);
}

pub trait Take: Sized {
    fn take(json: &[u8]) -> Taken<Self>;
}

/// A struct by its fields; `skips` are not written, and taken as given. What `may` be left out is
/// not written when it is the default, and is that when it is missing: fields that came later, so
/// that older recordings stay readable, and marks of definitions what they were.
macro_rules! fields {
    (put $name:ty { $($field:ident)* } $(may { $($may:ident)+ })?
        $(skips { $($skip:ident: $value:expr,)+ })?) => {
        impl Put for $name {
            #[inline(never)]
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field,)* $($($may,)+)? $($($skip: _,)+)? } = self;
                out.push(b'{');
                $(
                    key(out, stringify!($field));
                    $field.put(out);
                )*
                $($(
                    if !is_default($may) {
                        key(out, stringify!($may));
                        $may.put(out);
                    }
                )+)?
                out.push(b'}');
            }
        }
    };
    ($name:ty { $($field:ident)* } $(may { $($may:ident)+ })?
        $(skips { $($skip:ident: $value:expr,)+ })?) => {
        fields!(put $name { $($field)* } $(may { $($may)+ })? $(skips { $($skip: $value,)+ })?);
        impl Take for $name {
            #[inline(never)]
            fn take(json: &[u8]) -> Taken<Self> {
                let fields = Fields::of(json)?;
                Ok(Self {
                    $($field: fields.get(stringify!($field))?,)*
                    $($($may: fields.get_or_default(stringify!($may))?,)+)?
                    $($($skip: $value,)+)?
                })
            }
        }
    };
}

/// An enum by its variants: with nothing, with one value, with fields.
macro_rules! variants {
    (put $name:ty {
        $($unit:ident)*;
        $($one:ident)*;
        $($many:ident { $($field:ident)+ $(, skips $skip:ident)? })*
    }) => {
        impl Put for $name {
            #[inline(never)]
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$unit => word(out, stringify!($unit)),)*
                    $(Self::$one(value) => {
                        out.push(b'{');
                        key(out, stringify!($one));
                        value.put(out);
                        out.push(b'}');
                    })*
                    $(Self::$many { $($field,)+ $($skip: _,)? } => {
                        out.push(b'{');
                        key(out, stringify!($many));
                        out.push(b'{');
                        $(
                            key(out, stringify!($field));
                            $field.put(out);
                        )+
                        out.extend_from_slice(b"}}");
                    })*
                }
            }
        }
    };
    ($name:ty {
        $($unit:ident)*;
        $($one:ident)*;
        $($many:ident { $($field:ident)+ })*
    }) => {
        variants!(put $name { $($unit)*; $($one)*; $($many { $($field)+ })* });
        impl Take for $name {
            #[inline(never)]
            fn take(json: &[u8]) -> Taken<Self> {
                let (name, content) = variant(json)?;
                // Where all are words.
                let _ = content;
                $(if *name == *stringify!($unit) {
                    return Ok(Self::$unit);
                })*
                $(if *name == *stringify!($one) {
                    return Ok(Self::$one(Take::take(content)?));
                })*
                $(if *name == *stringify!($many) {
                    let fields = Fields::of(content)?;
                    return Ok(Self::$many { $($field: fields.get(stringify!($field))?,)+ });
                })*
                Err(stringify!($name))
            }
        }
    };
}

/// What has serde's form.
macro_rules! serde {
    (put $($name:ty)+) => {
        $(impl Put for $name {
            #[inline(never)]
            fn put(&self, out: &mut Vec<u8>) {
                // Into memory, and without maps whose keys are no strings: it cannot fail.
                let _ = serde_json::to_writer(out, self);
            }
        })+
    };
    ($($name:ty)+) => {
        serde!(put $($name)+);
        $(impl Take for $name {
            #[inline(never)]
            fn take(json: &[u8]) -> Taken<Self> {
                from_serde(json, stringify!($name))
            }
        })+
    };
}
/// What is put as its only field.
macro_rules! newtype {
    ($($name:ty)+) => {
        $(
            impl Put for $name {
                fn put(&self, out: &mut Vec<u8>) {
                    self.0.put(out);
                }
            }

            impl Take for $name {
                fn take(json: &[u8]) -> Taken<Self> {
                    Take::take(json).map(Self)
                }
            }
        )+
    };
}
/// What has its words, and reads them.
macro_rules! words {
    ($($name:ty)+) => {
        $(
            impl Put for $name {
                fn put(&self, out: &mut Vec<u8>) {
                    word(out, self.word());
                }
            }

            impl Take for $name {
                fn take(json: &[u8]) -> Taken<Self> {
                    let word: Box<str> = Take::take(json)?;
                    Self::parse(&word).ok_or(stringify!($name))
                }
            }
        )+
    };
}
use {fields, newtype, serde, variants, words};

pub use checkpoint::{Kept, Veil, put_checkpoint, veiled};

/// A definition as a recording has it.
pub fn definition_text(definition: &crate::config::Definition) -> String {
    let mut json = Vec::new();
    definition.put(&mut json);
    String::from_utf8_lossy(&json).into_owned()
}

/// What [`definition_text`] wrote, perhaps of an older version.
pub fn read_definition(text: &str) -> Taken<crate::config::Definition> {
    Take::take(text.as_bytes())
}

/// The same of the daemon's rules.
pub fn rules_text(rules: &crate::engine::HostRules) -> String {
    let mut json = Vec::new();
    rules.put(&mut json);
    String::from_utf8_lossy(&json).into_owned()
}

pub fn read_rules(text: &str) -> Taken<crate::engine::HostRules> {
    Take::take(text.as_bytes())
}

serde! { f64 Box<str> Rc<str> }

/// Numbers, by way of the widest of their kind.
macro_rules! numbers {
    ($put:ident $take:ident: $($name:ty)+) => {
        $(
            impl Put for $name {
                fn put(&self, out: &mut Vec<u8>) {
                    $put((*self).into(), out);
                }
            }

            impl Take for $name {
                fn take(json: &[u8]) -> Taken<Self> {
                    Self::try_from($take(json)?).map_err(|_| stringify!($name))
                }
            }
        )+
    };
}

numbers! { put_unsigned take_unsigned: u8 u16 u32 u64 }
numbers! { put_signed take_signed: i8 i16 i32 }

impl Put for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl Take for bool {
    fn take(json: &[u8]) -> Taken<bool> {
        match json {
            b"true" => Ok(true),
            b"false" => Ok(false),
            _ => Err("bool"),
        }
    }
}

#[inline(never)]
fn put_unsigned(n: u64, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, &n);
}

#[inline(never)]
fn put_signed(n: i64, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, &n);
}

#[inline(never)]
fn take_unsigned(json: &[u8]) -> Taken<u64> {
    let text = std::str::from_utf8(json).unwrap_or_default();
    text.parse().map_err(|_| "number")
}

#[inline(never)]
fn take_signed(json: &[u8]) -> Taken<i64> {
    let text = std::str::from_utf8(json).unwrap_or_default();
    text.parse().map_err(|_| "number")
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn from_serde<T: DeserializeOwned>(json: &[u8], name: Bad) -> Taken<T> {
    serde_json::from_slice(json).map_err(|_| name)
}

/// `,"key":`
#[inline(never)]
fn key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    word(out, key);
    out.push(b':');
}

#[inline(never)]
fn word(out: &mut Vec<u8>, word: &str) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// The members of an object.
struct Fields<'a>(BTreeMap<Box<str>, &'a RawValue>);

impl Fields<'_> {
    #[inline(never)]
    fn of(json: &[u8]) -> Taken<Fields<'_>> {
        let members = serde_json::from_slice(json).map_err(|_| "object")?;
        Ok(Fields(members))
    }

    #[inline(never)]
    fn json(&self, key: &str) -> &[u8] {
        self.0
            .get(key)
            .map_or(b"null", |value| value.get().as_bytes())
    }

    fn get<T: Take>(&self, key: &'static str) -> Taken<T> {
        T::take(self.json(key))
    }

    fn get_or_default<T: Take + Default>(&self, key: &'static str) -> Taken<T> {
        match self.0.contains_key(key) {
            true => self.get(key),
            false => Ok(T::default()),
        }
    }
}

#[inline(never)]
fn items(json: &[u8]) -> Taken<Vec<&RawValue>> {
    serde_json::from_slice(json).map_err(|_| "list")
}

/// `"Name"`, or `{"Name":content}`.
#[inline(never)]
fn variant(json: &[u8]) -> Taken<(Box<str>, &[u8])> {
    if json.first() == Some(&b'"') {
        return Ok((Take::take(json)?, b"null"));
    }
    let mut all = Fields::of(json)?.0.into_iter();
    let (name, content) = all.next().ok_or("variant")?;
    Ok((name, content.get().as_bytes()))
}

impl<T: Put> Put for [T] {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (n, item) in self.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            item.put(out);
        }
        out.push(b']');
    }
}

#[inline(never)]
fn take_all<T: Take>(json: &[u8]) -> Taken<Vec<T>> {
    let items = items(json)?;
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        all.push(T::take(item.get().as_bytes())?);
    }
    Ok(all)
}

impl<T: Put> Put for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_slice().put(out);
    }
}

impl<T: Take> Take for Vec<T> {
    fn take(json: &[u8]) -> Taken<Vec<T>> {
        take_all(json)
    }
}

impl<T: Put> Put for Box<[T]> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<T: Take> Take for Box<[T]> {
    fn take(json: &[u8]) -> Taken<Box<[T]>> {
        take_all(json).map(Vec::into)
    }
}

impl<T: Put> Put for VecDeque<T> {
    fn put(&self, out: &mut Vec<u8>) {
        let all: Vec<&T> = self.iter().collect();
        all.put(out);
    }
}

impl<T: Take> Take for VecDeque<T> {
    fn take(json: &[u8]) -> Taken<VecDeque<T>> {
        take_all(json).map(Vec::into)
    }
}

impl<T: Put> Put for BTreeMap<Box<str>, T> {
    fn put(&self, out: &mut Vec<u8>) {
        let mut before = b'{';
        for (name, value) in self {
            out.push(before);
            before = b',';
            name.put(out);
            out.push(b':');
            value.put(out);
        }
        if self.is_empty() {
            out.push(b'{');
        }
        out.push(b'}');
    }
}

impl<T: Take> Take for BTreeMap<Box<str>, T> {
    fn take(json: &[u8]) -> Taken<BTreeMap<Box<str>, T>> {
        // Not `collect`, which sorts first, in 12 KB of code.
        let mut map = BTreeMap::new();
        for (name, value) in Fields::of(json)?.0 {
            map.insert(name, T::take(value.get().as_bytes())?);
        }
        Ok(map)
    }
}

impl<T: Put + ?Sized> Put for &T {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<T: Put> Put for Rc<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<T: Take> Take for Rc<T> {
    fn take(json: &[u8]) -> Taken<Rc<T>> {
        T::take(json).map(Rc::new)
    }
}

impl<T: Put> Put for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<T: Take> Take for Box<T> {
    fn take(json: &[u8]) -> Taken<Box<T>> {
        T::take(json).map(Box::new)
    }
}

impl<T: Put> Put for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.put(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

impl<T: Take> Take for Option<T> {
    fn take(json: &[u8]) -> Taken<Option<T>> {
        match json {
            b"null" => Ok(None),
            _ => T::take(json).map(Some),
        }
    }
}

impl<T: Put, E: Put> Put for Result<T, E> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        match self {
            Ok(value) => {
                key(out, "Ok");
                value.put(out);
            }
            Err(error) => {
                key(out, "Err");
                error.put(out);
            }
        }
        out.push(b'}');
    }
}

impl<T: Take, E: Take> Take for Result<T, E> {
    fn take(json: &[u8]) -> Taken<Result<T, E>> {
        let (name, content) = variant(json)?;
        match &*name {
            "Ok" => T::take(content).map(Ok),
            _ => E::take(content).map(Err),
        }
    }
}

impl Put for () {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"null");
    }
}

impl Take for () {
    fn take(_: &[u8]) -> Taken<()> {
        Ok(())
    }
}

impl<A: Put, B: Put> Put for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        self.0.put(out);
        out.push(b',');
        self.1.put(out);
        out.push(b']');
    }
}

impl<A: Take, B: Take> Take for (A, B) {
    fn take(json: &[u8]) -> Taken<(A, B)> {
        let items = items(json)?;
        let at = |n: usize| {
            items
                .get(n)
                .map_or(&b"null"[..], |item| item.get().as_bytes())
        };
        Ok((A::take(at(0))?, B::take(at(1))?))
    }
}

impl<A: Put, B: Put, C: Put> Put for (A, B, C) {
    fn put(&self, out: &mut Vec<u8>) {
        ((&self.0, &self.1), &self.2).put(out);
    }
}

impl<A: Take, B: Take, C: Take> Take for (A, B, C) {
    fn take(json: &[u8]) -> Taken<(A, B, C)> {
        let ((a, b), c) = Take::take(json)?;
        Ok((a, b, c))
    }
}

impl Put for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        (self.as_secs(), self.subsec_nanos()).put(out);
    }
}

impl Take for Duration {
    fn take(json: &[u8]) -> Taken<Duration> {
        let (seconds, nanos) = Take::take(json)?;
        Ok(Duration::new(seconds, nanos))
    }
}

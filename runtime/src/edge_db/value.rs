//! What may be stored or answered.

use bytes::Bytes;

/// Text or bytes, kept as they are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither text nor bytes",
    label = "not text or bytes",
    note = "anything else goes as JSON: `set_json`, `add_to_list_json`, `Response::json`"
)]
pub trait IntoValue {
    /// The bytes.
    fn into_value(self) -> Bytes;
}

impl IntoValue for Bytes {
    fn into_value(self) -> Bytes {
        self
    }
}

impl IntoValue for &Bytes {
    fn into_value(self) -> Bytes {
        self.clone()
    }
}

impl IntoValue for String {
    fn into_value(self) -> Bytes {
        self.into()
    }
}

impl IntoValue for Vec<u8> {
    fn into_value(self) -> Bytes {
        self.into()
    }
}

macro_rules! copied {
    ($($type:ty),*) => {$(
        impl IntoValue for $type {
            fn into_value(self) -> Bytes {
                Bytes::copy_from_slice(self.as_ref())
            }
        }
    )*};
}

copied!(&str, &String, &[u8], &Vec<u8>);

impl<const N: usize> IntoValue for &[u8; N] {
    fn into_value(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoValue for [u8; N] {
    fn into_value(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

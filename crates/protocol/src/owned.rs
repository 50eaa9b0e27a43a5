//! Messages that outlive their frame.

use std::borrow::Cow;

/// A value that may borrow from a frame and can stop doing so by copying what it borrows.
pub trait IntoOwned {
    /// The same type without a borrow.
    type Owned: 'static;

    /// Copies what is still borrowed; what is owned already moves.
    fn into_owned(self) -> Self::Owned;
}

impl<B: ?Sized + ToOwned + 'static> IntoOwned for Cow<'_, B> {
    type Owned = Cow<'static, B>;

    fn into_owned(self) -> Cow<'static, B> {
        Cow::Owned(Cow::into_owned(self))
    }
}

impl<T: IntoOwned> IntoOwned for Vec<T> {
    type Owned = Vec<T::Owned>;

    fn into_owned(self) -> Vec<T::Owned> {
        self.into_iter().map(T::into_owned).collect()
    }
}

impl<T: IntoOwned> IntoOwned for Option<T> {
    type Owned = Option<T::Owned>;

    fn into_owned(self) -> Option<T::Owned> {
        self.map(T::into_owned)
    }
}

//! [`Item`]: what the streams of the bench `overhead` and of `tests/alloc` are made of.

use fallway::backend::StreamItem;

/// One token in four bytes.
pub(crate) struct Item {
    pub(crate) last: bool,
}

impl StreamItem for Item {
    fn content(&self) -> u64 {
        1
    }
    fn is_last(&self) -> bool {
        self.last
    }
    fn size(&self) -> usize {
        4
    }
}

//! [`StreamItem`]: what the router must know of the items of a stream.

/// An item of a streamed answer, as far as the router must know it. It never looks inside.
///
/// ```
/// use fallway::backend::StreamItem;
///
/// /// An event of a provider's stream.
/// enum Chunk {
///     Role,
///     Text(String),
///     Done,
/// }
///
/// impl StreamItem for Chunk {
///     fn content(&self) -> u64 {
///         u64::from(matches!(self, Self::Text(_)))
///     }
///     fn is_last(&self) -> bool {
///         matches!(self, Self::Done)
///     }
///     fn size(&self) -> usize {
///         if let Self::Text(text) = self { text.len() } else { 0 }
///     }
/// }
/// # assert!(Chunk::Role.content() == 0 && !Chunk::Role.is_last() && Chunk::Text("Hi".into()).size() == 2);
/// ```
pub trait StreamItem: Send + 'static {
    /// How much of the answer it carries, in what the host counts: tokens, as a rule. 0 for what the caller would not
    /// miss (the role, metadata, a ping): that is held back until the first content, and can still be thrown away.
    fn content(&self) -> u64;

    /// Whether the answer is complete with it: the terminator of the protocol, such as `[DONE]`. A stream that ends
    /// without one was cut.
    fn is_last(&self) -> bool;

    /// How many bytes it takes, for [the bound](crate::router::Builder::largest_item).
    fn size(&self) -> usize;
}

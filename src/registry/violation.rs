//! What is wrong with a publication: where, what, and whether it can be forced.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// Worth a look; published all the same.
    Warning,
    /// A change that is valid but likelier a mistake. [`Publication::force`](super::Publication::force) lets it through.
    Guard,
    /// Invalid, whatever anybody says.
    Error,
}

macro_rules! codes {
    ($($(#[$docs:meta])* $name:ident = $text:literal, $severity:ident;)*) => {
        /// What is wrong, for programs; stable text for logs.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$docs])* $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As it stands in logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    /// No byte but white space.
    Empty = "empty", Error;
    /// More than 16 MiB.
    TooLarge = "too_large", Error;
    /// Not UTF-8.
    NotUtf8 = "not_utf8", Error;
    /// Not JSON: `NaN`, a comma too many, half a surrogate pair.
    NotJson = "not_json", Error;
    /// Nests deeper than anything that is read here.
    TooDeep = "too_deep", Error;
    /// More values than a document may have.
    TooManyValues = "too_many_values", Error;
    /// The same key twice in an object.
    DuplicateKey = "duplicate_key", Error;
    /// Text where a number should be, and the like.
    WrongType = "wrong_type", Error;
    /// A field that must be there is not.
    Missing = "missing", Error;
    /// A field that nobody knows: more likely a misspelt one than one to ignore.
    UnknownField = "unknown_field", Error;
    /// A value that is none of those that are known.
    UnknownValue = "unknown_value", Error;
    /// A negative number.
    Negative = "negative", Error;
    /// A number beyond what it may be, or zero where nothing is meant by it.
    OutOfRange = "out_of_range", Error;
    /// An entry of a price list that is not priced by tokens.
    NotByTokens = "not_by_tokens", Error;
    /// A name that is empty, too long, or has other characters than `A-Z a-z 0-9 . _ : / @ + -`.
    InvalidId = "invalid_id", Error;
    /// An endpoint that looks like an address and not like a name for one, with `://` or `@` in it: addresses carry
    /// secrets.
    EndpointIsAddress = "endpoint_is_address", Error;
    /// An alias has the name of a `model@version`.
    AmbiguousName = "ambiguous_name", Error;
    /// A version that is nowhere in the catalogue.
    UnknownVersion = "unknown_version", Error;
    /// A target that is neither an alias nor a `model@version`.
    UnknownTarget = "unknown_target", Error;
    /// The shares of an alias do not sum to 10,000.
    SplitSum = "split_sum", Error;
    /// The same target twice in an alias, or in its chain.
    DuplicateTarget = "duplicate_target", Error;
    /// An alias that leads back to itself.
    AliasCycle = "alias_cycle", Error;
    /// More than four aliases one behind the other.
    AliasTooDeep = "alias_too_deep", Error;
    /// An alias serves a version that is in no state to be served.
    NotServable = "not_servable", Error;
    /// An alias serves a version that is nowhere, or nowhere with a weight.
    NoPlacement = "no_placement", Error;
    /// Two placements of one version at the same provider, region and endpoint.
    DuplicatePlacement = "duplicate_placement", Error;
    /// An answer longer than the window that it must fit in.
    InconsistentLimits = "inconsistent_limits", Error;
    /// Price tiers that do not begin at 0, do not ascend, or fall in price.
    UnorderedTiers = "unordered_tiers", Error;
    /// A sunset or a replacement of a version that is not deprecated.
    NotDeprecated = "not_deprecated", Error;

    /// More than a fifth of the models would go.
    ModelsRemoved = "models_removed", Guard;
    /// A price that is being paid rises or falls tenfold, or becomes or ceases to be nothing.
    PriceJump = "price_jump", Guard;
    /// The context window of a version that is served shrinks to half or less.
    ContextHalved = "context_halved", Guard;
    /// More than half of the placements would change.
    PlacementsChanged = "placements_changed", Guard;
    /// The last placement with a residency tag would go.
    ResidencyLost = "residency_lost", Guard;
    /// A state that does not follow from the one before.
    StateJump = "state_jump", Guard;

    /// The publication expected another generation than there is.
    Conflict = "conflict", Error;
    /// Nothing of this name or generation exists.
    NotFound = "not_found", Error;
    /// Nothing has been published yet.
    NothingPublished = "nothing_published", Error;
    /// A serial below one that this key has published.
    Replayed = "replayed", Error;
    /// A serial that this key has published with another content.
    Equivocation = "equivocation", Error;
    /// A serial so far ahead that none would be left.
    SerialJump = "serial_jump", Error;
    /// Every version that an alias serves is quarantined.
    QuarantineEmpties = "quarantine_empties", Error;
    /// Rollouts are frozen, for too many had to be rolled back.
    Frozen = "frozen", Error;
    /// A digest that is not that of the content beside it.
    DigestMismatch = "digest_mismatch", Error;
    /// A signature is required and not there.
    Unsigned = "unsigned", Error;
    /// The signature is not of this content by this key.
    BadSignature = "bad_signature", Error;
    /// A key that nobody trusts.
    UnknownKey = "unknown_key", Error;
    /// The signature, or the key, is beyond its time.
    Expired = "expired", Error;
    /// A validator of the host refused.
    Refused = "refused", Error;
    /// A validator of the host panicked.
    ValidatorPanicked = "validator_panicked", Error;

    /// A price that nobody knows: neither zero nor infinite, and no cap of costs can be kept.
    PriceUnknown = "price_unknown", Warning;
    /// A deprecated version is served beyond its sunset.
    SunsetDue = "sunset_due", Warning;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in a document: a JSON pointer (RFC 6901), empty for the whole. Prints in plain ASCII whatever the keys were.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(String);

/// How much of a key a path shows.
const SHOWN: usize = 128;

impl Path {
    /// The document itself.
    pub(super) const fn root() -> Self {
        Self(String::new())
    }

    pub(super) fn push(&mut self, key: &str) {
        self.0.push('/');
        for c in key.chars().take(SHOWN) {
            match c {
                '~' => self.0.push_str("~0"),
                '/' => self.0.push_str("~1"),
                ' '..='\u{7e}' => self.0.push(c),
                _ => self.0.extend(c.escape_unicode()),
            }
        }
    }

    pub(super) fn push_index(&mut self, index: usize) {
        self.push(&index.to_string());
    }

    pub(super) fn pop(&mut self) {
        self.0.truncate(self.0.rfind('/').unwrap_or(0));
    }

    /// The place of these keys.
    pub(super) fn of<const N: usize>(keys: [&str; N]) -> Self {
        let mut path = Self::root();
        keys.into_iter().for_each(|key| path.push(key));
        path
    }

    pub(super) fn then(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.push(key);
        path
    }

    /// The same place where the document is a member of another.
    fn within(self, key: &str) -> Self {
        let mut path = Self::of([key]);
        path.0.push_str(&self.0);
        path
    }

    /// As text: `/models/llama-70b/versions/3`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    path: Path,
    code: Code,
    message: String,
}

impl Violation {
    pub(super) fn new(code: Code, path: Path, message: impl Into<String>) -> Self {
        Self { path, code, message: message.into() }
    }

    /// Where: a JSON pointer into the document.
    pub const fn path(&self) -> &Path {
        &self.path
    }

    /// What.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// How bad.
    pub const fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// In words.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.path, self.code, self.message)
    }
}

/// What was found so far, as much of it as is told.
#[derive(Debug, Default)]
pub(super) struct Findings {
    violations: Vec<Violation>,
    bytes: usize,
}

impl Findings {
    pub(super) fn push(&mut self, violation: Violation) {
        if self.bytes < Nack::TOLD {
            self.bytes += size_of::<Violation>() + violation.path.0.len() + violation.message.len();
            self.violations.push(violation);
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.violations.is_empty()
    }
}

impl From<Findings> for Vec<Violation> {
    fn from(found: Findings) -> Self {
        found.violations
    }
}

impl From<Findings> for Nack {
    fn from(found: Findings) -> Self {
        found.violations.into()
    }
}

/// A publication that was refused. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Nack {
    violations: Vec<Violation>,
}

impl Nack {
    /// How many bytes of places and messages are told of one document. A hostile one has a mistake in every ten bytes,
    /// each at a place with a long name: told in full, they would be a hundred times the document.
    pub const TOLD: usize = 16 << 20;

    pub(super) fn one(code: Code, path: Path, message: impl Into<String>) -> Self {
        Self { violations: vec![Violation::new(code, path, message)] }
    }

    /// The same of a document that is a member of another.
    pub(super) fn within(self, key: &str) -> Self {
        let inside = |violation: Violation| Violation { path: violation.path.within(key), ..violation };
        Self { violations: self.violations.into_iter().map(inside).collect() }
    }

    /// Everything that was found, as far as [`TOLD`](Self::TOLD) goes, the worst first; at least one of it is more than a warning.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Whether something of this kind was found.
    pub fn has(&self, code: Code) -> bool {
        self.violations.iter().any(|violation| violation.code == code)
    }

    /// Whether nothing but change guards stood in the way, so that force would let it through.
    pub fn can_be_forced(&self) -> bool {
        self.violations.iter().all(|violation| violation.severity() < Severity::Error)
    }
}

impl From<Violation> for Nack {
    fn from(violation: Violation) -> Self {
        Self { violations: vec![violation] }
    }
}

impl From<Vec<Violation>> for Nack {
    fn from(mut violations: Vec<Violation>) -> Self {
        violations.sort_by_key(|violation| std::cmp::Reverse(violation.severity()));
        Self { violations }
    }
}

impl fmt::Display for Nack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.violations {
            [] => f.write_str("refused"),
            [only] => write!(f, "refused: {only}"),
            [first, rest @ ..] => write!(f, "refused: {first} (and {} more)", rest.len()),
        }
    }
}

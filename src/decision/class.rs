//! [`Class`]: what may be done about a rejection.

use super::Reason;

/// What a policy may do about a rejection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A hard line: nothing readmits the candidate for this request.
    Hard,
    /// The backend or its limit said no, with authority; it returns by itself.
    Refused,
    /// An inference from signals, which may be wrong: panic mode may override it.
    Soft,
    /// Not a rejection.
    Note,
}

impl Reason {
    /// What may be done about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Drained
            | Self::OutsideResidency
            | Self::TenantForbidden
            | Self::OutsideShard { .. }
            | Self::NoShare
            | Self::MissingCapabilities { .. }
            | Self::ContextTooLong { .. }
            | Self::OverPriceCap { .. }
            | Self::PriceUnknown
            | Self::SpendLimitTooSmall { .. }
            | Self::QuotaTooSmall { .. }
            | Self::TokenBoundTooSmall { .. }
            | Self::Forbidden { .. }
            | Self::WouldRepeat { .. }
            | Self::AskedAlready { .. }
            | Self::DomainAsked { .. } => Class::Hard,
            Self::RateLimited { .. }
            | Self::AskedToWait { .. }
            | Self::QuotaExhausted { .. }
            | Self::Unauthorized { .. }
            | Self::ModelUnavailable { .. }
            | Self::AtCapacity { .. }
            | Self::PrefillFull { .. }
            | Self::TokensFull { .. }
            | Self::OverQuota { .. }
            | Self::QuotaKept { .. }
            | Self::OverSpendLimit { .. }
            | Self::TenantFull { .. }
            | Self::RouteFull { .. }
            | Self::RegionFull { .. }
            | Self::Reserved { .. }
            | Self::Throttled { .. }
            | Self::QuotaInDoubt
            | Self::TooSlow { .. }
            | Self::MissesDeadline { .. }
            | Self::ProbeInFlight { .. }
            | Self::NotForHedges
            | Self::LostRace => Class::Refused,
            Self::Ejected { .. }
            | Self::FailsOften { .. }
            | Self::SlowerThanPeers { .. }
            | Self::FailsMoreThanPeers { .. }
            | Self::DomainOut { .. }
            | Self::CoolingDown { .. }
            | Self::OnProbation { .. }
            | Self::Unhealthy { .. }
            | Self::FailedHere { .. }
            | Self::Custom { .. } => Class::Soft,
            Self::Probe
            | Self::QuotaProbe
            | Self::OtherRegion
            | Self::SameDomain { .. }
            | Self::Trial
            | Self::Canary
            | Self::RampingUp { .. }
            | Self::Unproven { .. }
            | Self::PartlyUnproven { .. }
            | Self::Readmitted
            | Self::RetriedHere { .. }
            | Self::Busy { .. }
            | Self::Brownout { .. }
            | Self::MayBeLate { .. }
            | Self::OverBound { .. } => Class::Note,
        }
    }
}

//! Every leaf, by name.

use fallway::RoutingPolicy;
use fallway::policy::{
    PolicyExt, cheapest, least_loaded, ordered, power_of_two, predicted_ttft, round_robin, sticky, weighted,
};

pub(crate) const LEAVES: [&str; 8] =
    ["ordered", "round_robin", "weighted", "least_loaded", "power_of_two", "predicted_ttft", "cheapest", "sticky"];

pub(crate) fn leaf(name: &str) -> Box<dyn RoutingPolicy> {
    match name {
        "ordered" => ordered().boxed(),
        "round_robin" => round_robin().boxed(),
        "weighted" => weighted().boxed(),
        "least_loaded" => least_loaded().boxed(),
        "power_of_two" => power_of_two().boxed(),
        "predicted_ttft" => predicted_ttft().boxed(),
        "cheapest" => cheapest().boxed(),
        "sticky" => sticky().boxed(),
        name => panic!("no leaf is called {name}"),
    }
}

//! An operator's view of a model registry in a directory: import a price list, look what a publication would change,
//! publish it, see what was published, go back.
//!
//! ```text
//! registry_cli import litellm prices.json > models.json     every rejected entry on stderr
//! registry_cli validate DIRECTORY models.json
//! registry_cli diff     DIRECTORY models.json
//! registry_cli publish  DIRECTORY models.json [--expect GENERATION] [--force REASON]
//! registry_cli status   DIRECTORY
//! registry_cli history  DIRECTORY
//! registry_cli rollback DIRECTORY [GENERATION]
//! ```
//!
//! Without arguments it does all of that once, in a directory of its own:
//! `cargo run --features registry --example registry_cli`.

use fallway::registry::store::{Directory, Store};
use fallway::registry::{Ack, Nack, Publication, Registry, Review, import};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

type Answer = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = if arguments.is_empty() { tour() } else { run(&arguments) };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<Nack>() {
                Some(nack) => nack.violations().iter().for_each(|violation| eprintln!("{violation}")),
                None => eprintln!("{error}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Answer {
    let now = SystemTime::now();
    match arguments {
        ["import", kind, file] => convert(kind, &std::fs::read(file)?),
        ["validate", directory, file] => {
            let review = open(directory)?.validate(&Publication::parse(&std::fs::read(file)?)?, now)?;
            println!("valid; {} changes", changes(&review));
            review.warnings().iter().for_each(|warning| println!("{warning}"));
            Ok(())
        }
        ["diff", directory, file] => {
            // Forced, so that a guard is a remark and the changes are shown.
            let publication = Publication::parse(&std::fs::read(file)?)?.force("diff");
            let review = open(directory)?.validate(&publication, now)?;
            print!("{}", review.diff());
            review.warnings().iter().for_each(|warning| println!("{warning}"));
            Ok(())
        }
        ["publish", directory, file, options @ ..] => {
            let publication = options.chunks(2).try_fold(
                Publication::parse(&std::fs::read(file)?)?,
                |publication, option| -> Result<_, Box<dyn Error>> {
                    match option {
                        ["--expect", generation] => Ok(publication.expect_generation(generation.parse()?)),
                        ["--force", reason] => Ok(publication.force(*reason)),
                        _ => Err(format!("no option {option:?}").into()),
                    }
                },
            )?;
            told(&open(directory)?.publish(&publication, now)?);
            Ok(())
        }
        ["status", directory] => {
            let status = open(directory)?.status(now);
            println!("generation {} ({} published), {:.12}", status.generation, status.published, status.digest);
            println!("{:?}, {:?}, {}", status.source, status.freshness, status.durability);
            status.tried.iter().for_each(|tried| println!("{tried}"));
            Ok(())
        }
        ["history", directory] => {
            for record in open(directory)?.history() {
                let age = now.duration_since(record.at()).unwrap_or_default().as_secs();
                println!("{:>6}  {:.12}  {age:>6} s ago  {}", record.generation(), record.digest(), record.cause());
            }
            Ok(())
        }
        ["rollback", directory, generation @ ..] => {
            let generation = generation.first().map(|generation| generation.parse()).transpose()?;
            told(&open(directory)?.rollback(generation, now)?);
            Ok(())
        }
        _ => Err("import, validate, diff, publish, status, history or rollback: see the head of the source".into()),
    }
}

fn open(directory: &str) -> Result<Registry, Box<dyn Error>> {
    let store = Store::open(Directory::open(Path::new(directory))?)
        .map_err(|error| format!("{directory}: {error}; a registry has one writer"))?;
    Ok(Registry::builder().store(store).open(SystemTime::now()))
}

fn convert(kind: &str, list: &[u8]) -> Answer {
    let import = match kind {
        "litellm" => import::litellm(list)?,
        "models.dev" => import::models_dev(list)?,
        _ => return Err(format!("no importer for {kind}: litellm or models.dev").into()),
    };
    import.rejected().iter().chain(import.warnings()).for_each(|violation| eprintln!("{violation}"));
    let (accepted, total, unpriced) = (import.accepted(), import.total(), import.warnings().len());
    eprintln!("{accepted} of {total} entries taken, {unpriced} of them without the price that the list gives");
    println!("{}", String::from_utf8(import.catalog().to_bytes())?);
    Ok(())
}

fn changes(review: &Review) -> usize {
    review.diff().added().len() + review.diff().changed().len() + review.diff().removed().len()
}

fn told(ack: &Ack) {
    println!(
        "generation {}, {:.12}, {}; {} changes",
        ack.generation(),
        ack.digest(),
        ack.durability(),
        changes(ack.review())
    );
    ack.review().warnings().iter().for_each(|warning| println!("{warning}"));
}

/// Everything once.
fn tour() -> Answer {
    let home = std::env::temp_dir().join(format!("fallway-registry-cli-{}", std::process::id()));
    std::fs::create_dir_all(&home)?;
    let path = |name: &str| home.join(name).to_string_lossy().into_owned();
    let (directory, good, dear) = (path("registry"), path("models.json"), path("dear.json"));
    let models = |price: u64| {
        format!(
            r#"{{"models": {{"llama-70b": {{"versions": {{"3": {{"state": "live", "context": 131072,
                "price": [{{"input": {price}, "output": 790000}}]}}}}}}}},
              "placements": {{"eu": {{"version": "llama-70b@3", "provider": "acme", "region": "eu-west",
                "endpoint": "eu-a", "residency": ["eu"]}}}},
              "aliases": {{"chat": {{"targets": [{{"to": "llama-70b@3", "share": 10000}}]}}}}}}"#
        )
    };
    std::fs::write(&good, models(590_000))?;
    std::fs::write(&dear, models(5_900_000))?;
    let list = r#"{"gpt": {"mode": "chat", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07}, "dall": {"mode": "image_generation"}}"#;
    std::fs::write(path("prices.json"), list)?;

    for command in [
        vec!["import", "litellm", &path("prices.json")],
        vec!["validate", &directory, &good],
        vec!["publish", &directory, &good, "--expect", "0"],
        vec!["diff", &directory, &dear],
        vec!["publish", &directory, &dear],
        vec!["publish", &directory, &dear, "--force", "the provider says so"],
        vec!["rollback", &directory],
        vec!["history", &directory],
        vec!["status", &directory],
    ] {
        let shown: Vec<_> = command.iter().map(|word| word.rsplit('/').next().unwrap_or(word)).collect();
        println!("\n$ registry_cli {}", shown.join(" "));
        if let Err(error) = run(&command) {
            let nack = error.downcast::<Nack>()?;
            nack.violations().iter().for_each(|violation| println!("refused: {violation}"));
        }
    }
    std::fs::remove_dir_all(&home)?;
    Ok(())
}

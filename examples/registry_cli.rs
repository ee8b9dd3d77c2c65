//! An operator's view of a model registry in a directory: import a price list, look what a publication would change,
//! publish it, see what was published, go back.
//!
//! ```text
//! registry_cli import litellm prices.json > models.json     rejected entries on stderr; or models.dev
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
use std::io::ErrorKind;
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
        ["import", kind, file] => convert(kind, &read(file)?),
        ["validate", directory, file] => {
            let review = open(directory)?.validate(&Publication::parse(&read(file)?)?, now)?;
            println!("valid; {} changes", changes(&review));
            review.warnings().iter().for_each(|warning| println!("{warning}"));
            Ok(())
        }
        ["diff", directory, file] => {
            // Forced, so that a guard is a remark and the changes are shown.
            let publication = Publication::parse(&read(file)?)?.force("diff");
            let review = open(directory)?.validate(&publication, now)?;
            print!("{}", review.diff());
            review.warnings().iter().for_each(|warning| println!("{warning}"));
            Ok(())
        }
        ["publish", directory, file, options @ ..] => {
            let publication = options.chunks(2).try_fold(
                Publication::parse(&read(file)?)?,
                |publication, option| -> Result<_, Box<dyn Error>> {
                    match option {
                        ["--expect", generation] => Ok(publication.expect_generation(number(generation)?)),
                        ["--force", reason] => Ok(publication.force(*reason)),
                        other => {
                            Err(format!("no option {}: --expect GENERATION or --force REASON", other.join(" ")).into())
                        }
                    }
                },
            )?;
            // The one command that begins a directory.
            std::fs::create_dir_all(directory).map_err(|error| format!("{directory}: {error}"))?;
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
        ["rollback", directory] => {
            told(&open(directory)?.rollback(None, now)?);
            Ok(())
        }
        ["rollback", directory, generation] => {
            told(&open(directory)?.rollback(Some(number(generation)?), now)?);
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

const USAGE: &str = "\
registry_cli import litellm|models.dev LIST
registry_cli validate|diff DIRECTORY FILE
registry_cli publish DIRECTORY FILE [--expect GENERATION] [--force REASON]
registry_cli status|history DIRECTORY
registry_cli rollback DIRECTORY [GENERATION]";

fn read(file: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    std::fs::read(file).map_err(|error| format!("{file}: {error}").into())
}

fn number(text: &str) -> Result<u64, Box<dyn Error>> {
    text.parse().map_err(|_| format!("{text} is no generation: a whole number is expected").into())
}

/// Takes a directory that is there: whoever asks for the status of one that is misspelt must not get a new one. As every
/// start does, this repairs what is broken in it.
fn open(directory: &str) -> Result<Registry, Box<dyn Error>> {
    if !Path::new(directory).is_dir() {
        return Err(format!("{directory}: no such directory; publish begins one").into());
    }
    let store = Directory::open(directory).and_then(Store::open).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => format!("{directory}: another process has it, and a registry has one writer"),
        _ => format!("{directory}: {error}"),
    })?;
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
    if accepted == 0 {
        return Err(format!("nothing was taken: is it a list of {kind}?").into());
    }
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
        vec!["publish", &directory, &good, "--expect", "0"],
        vec!["validate", &directory, &dear],
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn error(arguments: &[&str]) -> String {
        run(arguments).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_offender_and_nothing_is_made_of_a_misspelt_directory() {
        let home = std::env::temp_dir().join(format!("fallway-registry-cli-errors-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let path = |name: &str| home.join(name).to_string_lossy().into_owned();
        let (directory, file, list) = (path("registry"), path("models.json"), path("list.json"));
        std::fs::write(&file, "{}").unwrap();
        std::fs::write(&list, r#"{"acme": {"models": {}}}"#).unwrap();
        for command in ["status", "history", "rollback"] {
            assert!(error(&[command, &directory]).starts_with(&directory), "{command}");
        }
        assert!(error(&["validate", &directory, &file]).contains("no such directory"));
        assert!(!Path::new(&directory).exists());
        assert!(error(&["publish", &directory, &path("nobody")]).starts_with(&path("nobody")));
        assert_eq!(
            error(&["publish", &directory, &file, "--expect", "x"]),
            "x is no generation: a whole number is expected"
        );
        assert!(error(&["publish", &directory, &file, "--force"]).starts_with("no option --force: "));
        assert!(error(&["import", "litellm", &list]).starts_with("nothing was taken"));
        run(&["publish", &directory, &file]).unwrap();
        assert!(error(&["rollback", &directory, "x"]).starts_with("x is no generation"));
        assert_eq!(error(&["rollback", &directory, "1", "2"]), USAGE);
        let held = open(&directory).unwrap();
        assert!(error(&["status", &directory]).ends_with("another process has it, and a registry has one writer"));
        drop(held);
        std::fs::remove_dir_all(&home).unwrap();
    }
}

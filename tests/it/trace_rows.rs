//! The trace parser behind `examples/replay`: what it reads, and that every malformed row is named with its line.

use std::time::Duration;

use crate::examples::trace::{HEADER, Reason, Row, TraceError, parse};

/// A file made of the header and these lines.
fn file(lines: &[&str]) -> String {
    [&[HEADER], lines].concat().join("\n")
}

/// The reason and line of a file that must not parse.
fn refusal(text: &str) -> (usize, Reason) {
    let TraceError { line, reason } = parse(text).expect_err("this file is malformed");
    (line, reason)
}

const GOOD: &str = "2023-11-16 18:15:46.6805900,374,44";

#[test]
fn times_are_relative_and_exact_to_100_ns() {
    let rows = parse(&file(&[GOOD, "2023-11-16 18:15:46.6805901,396,109", "2023-11-17 00:00:00.5,1,1"]))
        .expect("well-formed rows");
    assert_eq!(
        rows,
        [
            Row { at: Duration::ZERO, prompt_tokens: 374, output_tokens: 44 },
            Row { at: Duration::from_nanos(100), prompt_tokens: 396, output_tokens: 109 },
            Row { at: Duration::from_nanos(20_653_819_410_000), prompt_tokens: 1, output_tokens: 1 },
        ]
    );
}

#[test]
fn time_runs_on_across_leap_days_and_years() {
    for (from, to, days) in [
        ("2024-02-28", "2024-03-01", 2),
        ("2023-02-28", "2023-03-01", 1),
        ("2000-02-29", "2000-03-01", 1),
        ("2100-02-28", "2100-03-01", 1),
        ("1970-01-01", "2023-11-16", 19_677),
        ("2023-12-31", "2024-01-01", 1),
        ("1970-01-01", "9999-12-31", 2_932_896),
    ] {
        let rows = parse(&file(&[&format!("{from} 12:00:00,1,1"), &format!("{to} 12:00:00.0000000,1,1")]))
            .expect("well-formed rows");
        assert_eq!(rows[1].at.as_secs(), days * 86_400, "{from} to {to}");
    }
}

#[test]
fn windows_line_ends_and_a_final_newline_are_the_same_file() {
    let unix = file(&[GOOD, GOOD]);
    let windows = unix.replace('\n', "\r\n");
    assert_eq!(parse(&unix), parse(&windows));
    assert_eq!(parse(&unix), parse(&format!("{unix}\n")));
}

#[test]
fn equal_times_are_in_order() {
    assert_eq!(parse(&file(&[GOOD, GOOD])).map(|rows| rows.len()), Ok(2));
}

#[test]
fn a_file_without_rows_is_refused() {
    assert_eq!(refusal(""), (1, Reason::NoRows));
    assert_eq!(refusal(HEADER), (2, Reason::NoRows));
}

#[test]
fn another_header_is_refused() {
    for header in ["timestamp,prompt,output", "", GOOD, "\u{feff}TIMESTAMP,ContextTokens,GeneratedTokens"] {
        let (line, reason) = refusal(&format!("{header}\n{GOOD}\n"));
        assert_eq!(line, 1);
        assert!(matches!(reason, Reason::Header { .. }), "{reason:?}");
    }
}

#[test]
fn a_wrong_number_of_columns_is_refused() {
    for (line, found) in [("2023-11-16 18:15:46.6805900,374", 2), ("2023-11-16 18:15:46.6805900,374,44,1", 4), ("", 1)]
    {
        assert_eq!(refusal(&file(&[GOOD, line, GOOD])), (3, Reason::ColumnCount { found }));
    }
}

#[test]
fn a_time_that_is_none_is_refused() {
    for time in [
        "",
        "2023-11-16",
        "2023-11-16T18:15:46",
        "2023-13-01 00:00:00",
        "2023-02-29 00:00:00",
        "2023-00-01 00:00:00",
        "2023-01-00 00:00:00",
        "1969-12-31 00:00:00",
        "99999-01-01 00:00:00",
        "2023-11-16 24:00:00",
        "2023-11-16 18:60:00",
        "2023-11-16 18:15:60",
        "2023-11-16 18:15",
        "2023-11-16 18:15:46.12345678",
        "2023-11-16 18:15:46.",
        "2023-11-16 18:15:46.+1",
        "99999999999999999999-11-16 18:15:46",
    ] {
        let found = time.to_owned();
        assert_eq!(refusal(&file(&[&format!("{time},1,1")])), (2, Reason::Timestamp { found }));
    }
}

#[test]
fn a_token_count_that_is_no_whole_number_is_refused() {
    for field in ["", "many", "1.5", "+1", " 1", "NaN", "-", "99999999999"] {
        assert_eq!(
            refusal(&file(&[&format!("2023-11-16 18:15:46,{field},1")])),
            (2, Reason::Number { column: "ContextTokens", found: field.to_owned() })
        );
    }
}

#[test]
fn negative_and_zero_token_counts_have_their_own_reasons() {
    let column = "GeneratedTokens";
    for field in ["-1", "-0", "-1.5"] {
        let found = field.to_owned();
        assert_eq!(
            refusal(&file(&[&format!("2023-11-16 18:15:46,1,{field}")])),
            (2, Reason::Negative { column, found })
        );
    }
    for field in ["0", "00"] {
        assert_eq!(refusal(&file(&[&format!("2023-11-16 18:15:46,1,{field}")])), (2, Reason::ZeroTokens { column }));
    }
}

#[test]
fn time_that_goes_backwards_is_refused() {
    assert_eq!(refusal(&file(&[GOOD, GOOD, "2023-11-16 18:15:46.6805899,374,44"])), (4, Reason::TimeGoesBack));
}

#[test]
fn the_message_names_line_and_reason() {
    let error = parse(&file(&[GOOD, "2023-11-16 18:15:47,-3,44"])).expect_err("malformed");
    assert_eq!(error.to_string(), "line 3: negative number: ContextTokens is -3");
}

#[test]
fn the_shipped_slice_is_the_recorded_one() {
    let rows = parse(include_str!("../../examples/data/azure-conv-2000.csv")).expect("the shipped slice is unchanged");
    assert_eq!(rows.len(), 2_000);
    assert_eq!(rows[1_999].at, Duration::from_nanos(424_259_457_000));
    let prompt: u64 = rows.iter().map(|row| u64::from(row.prompt_tokens)).sum();
    let output: u64 = rows.iter().map(|row| u64::from(row.output_tokens)).sum();
    assert_eq!((prompt, output), (2_209_565, 529_807));
}

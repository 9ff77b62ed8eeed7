//! The cost of cleaning a row and deriving its key: microseconds, allocations, and how both grow with the fields.

use std::alloc::System;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use relay_core::idempotency::IdempotencyKey;
use relay_core::row::schema::ContactSchema;
use relay_core::row::{Row, RowKind, RowOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MEASURE_DURATION: Duration = Duration::from_millis(1500);
/// Each twice the one before.
const FIELD_COUNTS: [usize; 4] = [30, 60, 120, 240];

/// An event with that many fields, half of them inside `eventProperties`: texts, blanks, numbers and booleans, as Clay
/// sends them.
fn row(fields: usize) -> String {
    let properties = fields / 2;
    let top = fields - properties;
    let mut row = r#"{"eventName":"enriched","email":" Ada.Lovelace@Example.com ","eventProperties":{"#.to_owned();
    for number in 0..properties {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(row, "{comma}{}", field(number));
    }
    row.push('}');
    // The name, the address and the properties are three of the fields.
    for number in 3..top {
        let _ = write!(row, ",{}", field(number));
    }
    row.push('}');
    row
}

fn field(number: usize) -> String {
    match number % 6 {
        0 => format!("\"companyName{number}\":\"Analytical Engines of number {number}, Ltd.\""),
        1 => format!("\"seats{number}\":\"{number}\""),
        2 => format!("\"blank{number}\":\"\""),
        3 => format!("\"score{number}\":{number}.50"),
        4 => format!("\"vip{number}\":\"TRUE\""),
        _ => format!("\"bio{number}\":\"Two lines\\nand \\\"quotes\\\", as somebody wrote them in a cell\""),
    }
}

/// The schema of an account that has every field of the largest row.
fn schema() -> Option<ContactSchema> {
    let mut list = r#"[{"key":"firstName","type":"string"}"#.to_owned();
    for number in 0..FIELD_COUNTS.iter().copied().max().unwrap_or_default() {
        let (name, kind) = match number % 6 {
            0 => ("companyName", "string"),
            1 => ("seats", "number"),
            2 => ("blank", "date"),
            3 => ("score", "number"),
            4 => ("vip", "boolean"),
            _ => ("bio", "string"),
        };
        let _ = write!(list, r#",{{"key":"{name}{number}","type":"{kind}"}}"#);
    }
    list.push(']');
    ContactSchema::parse(list.as_bytes())
}

fn clean_and_derive(row: &[u8], schema: Option<&ContactSchema>) -> Option<(Vec<u8>, IdempotencyKey)> {
    let row = Row::clean(RowKind::Event, row, RowOptions::default(), schema).ok()?;
    let key = IdempotencyKey::derive(row.event_name()?, row.email(), row.user_id(), row.event_properties());
    Some((row.to_body(), key))
}

/// Measures the median time of one call in microseconds, its allocations, and their bytes.
fn measure(row: &[u8], schema: Option<&ContactSchema>) -> (f64, usize, usize) {
    let region = Region::new(ALLOCATOR);
    drop(black_box(clean_and_derive(black_box(row), schema)));
    let change = region.change();
    let allocations = change.allocations + change.reallocations;
    let (mut times, started_at) = (Vec::new(), Instant::now());
    while started_at.elapsed() < MEASURE_DURATION {
        let start = Instant::now();
        drop(black_box(clean_and_derive(black_box(row), schema)));
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    (median.as_secs_f64() * 1e6, allocations, change.bytes_allocated)
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let full_schema = schema();
    for (label, schema) in [("types not known", None), ("types known", full_schema.as_ref())] {
        writeln!(out, "\nCleaning a row and deriving its key, {label}:\n")?;
        writeln!(out, "| fields | row, bytes | microseconds | × | allocations | × | bytes allocated | × |")?;
        writeln!(out, "|---:|---:|---:|---:|---:|---:|---:|---:|")?;
        let mut previous: Option<(f64, usize, usize)> = None;
        for fields in FIELD_COUNTS {
            let row = row(fields);
            if clean_and_derive(row.as_bytes(), schema).is_none() {
                return Err(std::io::Error::other("the row is refused, so there is nothing to measure"));
            }
            let (time, allocations, bytes) = measure(row.as_bytes(), schema);
            let growth = |now: f64, then: Option<f64>| then.map_or(String::new(), |then| format!("{:.2}", now / then));
            writeln!(
                out,
                "| {fields} | {} | {time:.1} | {} | {allocations} | {} | {bytes} | {} |",
                row.len(),
                growth(time, previous.map(|(time, ..)| time)),
                growth(as_f64(allocations), previous.map(|(_, allocations, _)| as_f64(allocations))),
                growth(as_f64(bytes), previous.map(|(.., bytes)| as_f64(bytes))),
            )?;
            previous = Some((time, allocations, bytes));
        }
    }
    writeln!(
        out,
        "\nEach row of the table has twice the fields of the one above it: × is what that costs; 2 is linear."
    )
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

//! Answers for people: lists as tables, objects as lines. Control characters never reach the terminal.

use std::fmt::Write;

use qrcode::render::unicode::Dense1x2;
use serde_json::{Map, Value};

/// Text of an answer.
pub fn text(value: &Value) -> String {
    match value {
        Value::Array(rows) if rows.iter().all(Value::is_object) => table(rows),
        Value::Array(rows) => rows.iter().fold(String::new(), |mut text, row| {
            let _written = writeln!(text, "{}", cell(row));
            text
        }),
        Value::Object(fields) => object(fields),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => format!("{}\n", cell(value)),
    }
}

/// Text of an answer; an address that a telephone reads from a QR code is shown as one, too.
pub fn text_with_code(value: &Value) -> String {
    let mut shown = text(value);
    if let Some(code) = value["uri"].as_str().and_then(|uri| qrcode::QrCode::new(uri).ok()) {
        shown.push('\n');
        let mut picture = code.render::<Dense1x2>();
        // Light letters on a dark ground are what most terminals have.
        shown.push_str(&picture.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build());
        shown.push('\n');
    }
    shown
}

/// An object, one of whose fields is a list that gets a table of its own below the others.
pub fn text_with_table(value: &Value, list: &str) -> String {
    let mut above = value.clone();
    let rows = above.as_object_mut().and_then(|fields| fields.remove(list)).unwrap_or_default();
    format!("{}\n{}", text(&above), text(&rows))
}

/// JSON: one line, or a line for each element of a list.
pub fn json(value: &Value) -> String {
    match value {
        Value::Array(rows) => rows.iter().map(|row| format!("{row}\n")).collect::<Vec<_>>().concat(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            format!("{value}\n")
        }
    }
}

fn object(fields: &Map<String, Value>) -> String {
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    fields.iter().filter(|(_, value)| !value.is_null()).fold(String::new(), |mut text, (name, value)| {
        let _written = writeln!(text, "{:width$}  {}", name.replace('_', " "), cell(value));
        text
    })
}

fn table(rows: &[Value]) -> String {
    let mut columns: Vec<&String> = Vec::new();
    for (name, value) in rows.iter().filter_map(Value::as_object).flatten() {
        if !columns.contains(&name) && !value.is_null() {
            columns.push(name);
        }
    }
    let mut lines =
        vec![columns.iter().map(|name| name.replace('_', " ").to_uppercase()).collect::<Vec<_>>()];
    for row in rows {
        lines.push(columns.iter().map(|name| row.get(name.as_str()).map(cell).unwrap_or_default()).collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            lines.iter().filter_map(|line| line.get(at)).map(|text| text.chars().count()).max().unwrap_or(0)
        })
        .collect();
    lines.iter().fold(String::new(), |mut text, line| {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _written = writeln!(text, "{}", padded.join("  ").trim_end());
        text
    })
}

/// A letter as a terminal may show it.
pub fn visible(letter: char) -> Box<dyn Iterator<Item = char>> {
    if letter.is_control() { Box::new(letter.escape_default()) } else { Box::new(std::iter::once(letter)) }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.chars().flat_map(visible).collect(),
        Value::Array(parts) => parts.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| format!("{name}={}", cell(value)))
            .collect::<Vec<_>>()
            .join(" "),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_a_table_and_control_characters_are_escaped() {
        let shown = text(&json!([{"name": "a", "bytes": 1}, {"name": "long\u{1b}[31m", "bytes": null}]));
        assert!(!shown.contains('\u{1b}') && shown.contains("NAME") && shown.lines().count() == 3, "{shown}");
        assert_eq!(super::json(&json!([{"a": 1}, {"a": 2}])), "{\"a\":1}\n{\"a\":2}\n");
    }
}

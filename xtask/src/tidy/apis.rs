//! `docs/protocol.md`: the APIs that the broker serves, from its own table and the schemas.

use std::path::Path;

use serde_json::Value;

use super::Finding;

/// The page, from the root.
pub(crate) const PAGE: &str = "docs/protocol.md";
/// Where the broker keeps its table, from the root.
pub(crate) const DISPATCH: &str = "crates/server/src/dispatch.rs";

const HEAD: &str = "\
# What Ottla speaks

The APIs of Kafka's protocol that the broker serves, which is what it answers to ApiVersions.
Any other API or version closes the connection, except that ApiVersions of a version that is not
served is answered in version 0, so that the client can ask again.

This page is written by `cargo xtask tidy --update` from `SERVED` in
[`dispatch.rs`](../crates/server/src/dispatch.rs) and the schemas. `cargo xtask test` fails where
it is not up to date.

| Key | API | Versions |
|---:|---|---|
";

/// The page as it should be.
pub(crate) fn page(root: &Path, dispatch: &str) -> Result<String, String> {
    let mut rows = Vec::new();
    for name in served(dispatch)? {
        let path = root.join(format!("crates/protocol/schema/{name}Request.json"));
        let at = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|e| at(&e))?;
        let schema: Value = serde_json::from_str(&text).map_err(|e| at(&e))?;
        let key = schema["apiKey"].as_i64().ok_or_else(|| at(&"no apiKey"))?;
        let versions = schema["validVersions"].as_str().ok_or_else(|| at(&"no validVersions"))?;
        rows.push((key, format!("| {key} | {name} | {} |\n", versions.replace('-', " – "))));
    }
    rows.sort();
    Ok(HEAD.to_owned() + &rows.into_iter().map(|(_, row)| row).collect::<String>())
}

/// Whether the committed page is the one that it should be.
pub(crate) fn check(committed: Option<&str>, page: &str) -> Option<Finding> {
    let stale = committed != Some(page);
    stale.then(|| Finding::new(PAGE, 0, "stale: run `cargo xtask tidy --update`".to_owned()))
}

/// The names in the table `SERVED`.
fn served(dispatch: &str) -> Result<Vec<&str>, String> {
    let table =
        dispatch.split_once("SERVED: &[ApiKey] = &[").and_then(|(_, rest)| rest.split_once(']'));
    let (table, _) = table.ok_or_else(|| format!("{DISPATCH}: no table SERVED"))?;
    let entries = table.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let name = |entry| str::strip_prefix(entry, "ApiKey::");
    entries.map(|entry| name(entry).ok_or_else(|| format!("{DISPATCH}: {entry:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_row_for_each_served_api_in_the_order_of_keys() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let dispatch =
            "const SERVED: &[ApiKey] = &[\n    ApiKey::ApiVersions,\n    ApiKey::Produce,\n];\n";
        let page = page(&root, dispatch).expect("both have schemas");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        let [produce, versions] = rows[..] else { panic!("{rows:?}") };
        assert!(produce.starts_with("| 0 | Produce | 3 – "), "{produce}");
        assert!(versions.starts_with("| 18 | ApiVersions | 0 – "), "{versions}");
        assert!(check(Some(&page), &page).is_none());
        assert!(check(Some(HEAD), &page).is_some() && check(None, &page).is_some());
    }

    #[test]
    fn a_table_that_cannot_be_read_is_an_error() {
        assert!(served("").is_err());
        assert!(served("SERVED: &[ApiKey] = &[EVERYTHING]").is_err());
    }
}

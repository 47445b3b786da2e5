//! Ways in for the fuzz targets of `fuzz/`.

use berth_api::host_config::PortMap;

use crate::template::{MissingKey, Template, Value};

/// Parses a template and runs it on a document. Whatever the text, this ends, and prints or tells why not.
pub fn template(text: &str, document: &serde_json::Value) {
    if let Ok(template) = Template::parse(text) {
        let _ = template.execute(Value::json(document), MissingKey::NoValue);
    }
}

/// What a text after `-p` asks the daemon for, if it is one.
pub fn published(text: &str) -> Option<PortMap> {
    crate::commands::container::options::published(text)
}

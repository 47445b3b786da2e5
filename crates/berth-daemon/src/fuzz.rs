//! Ways in for the fuzz targets of `fuzz/`.

use berth_api::host_config::PortMap;

use crate::{
    http::{
        filters::Filters,
        query::Query,
        router::{Route, route},
        version::ApiVersion,
        websocket,
    },
    resources, translate,
};

/// Routes a request line, and reads its query and filters, as for any endpoint.
pub fn request_line(method: &str, target: &str) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if let Route::Moved(path) = route(resources::ENDPOINTS, ApiVersion::NEWEST, method, path) {
        assert!(path.starts_with('/'), "a client is sent to {path:?}");
    }
    let query = Query::parse(query);
    for name in ["all", "filters", "tail"] {
        let _ = (query.flag(name), query.integer(name), query.all(name).count());
    }
    if let Ok(filters) = Filters::parse(query.text("filters")) {
        let _ = (filters.values("label").len(), filters.boolean("dangling"), filters.labels(|_| Some("value")));
    }
}

/// Reads which ports a client wants published, and shows them again, as inspect would.
pub fn published(ports: &PortMap) -> Result<PortMap, String> {
    let read = translate::ports::bindings(Some(ports)).map_err(|error| error.message)?;
    Ok(translate::ports::bindings_to_wire(&read))
}

/// Reads what a client sends over a websocket.
pub fn websocket_frames(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("memory");
    runtime.block_on(websocket::read_all(bytes));
}

//! What can be chosen, and who is there.

use axum::extract::State;
use axum::{Extension, Json};

use crate::gateway::Gateway;
use crate::gateway::auth::Caller;
use crate::gateway::error::Refusal;
use crate::model::{ModelInfo, Time};
use crate::protocol::{ClusterView, ErrorBody, List, Waiting};

/// The models that can be chosen now.
#[utoipa::path(get, path = "/api/models", responses((status = 200, body = List<ModelInfo>), (status = "default", body = ErrorBody)))]
pub(super) async fn models(State(gateway): State<Gateway>, Extension(caller): Extension<Caller>) -> Json<List<ModelInfo>> {
    Json(List { items: gateway.desk.models(caller.admin), next: None })
}

/// The nodes that live, and the work that waits. Where people log in, for admins.
#[utoipa::path(get, path = "/api/cluster", responses((status = 200, body = ClusterView), (status = 403, body = ErrorBody),
    (status = "default", body = ErrorBody)))]
pub(super) async fn cluster(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ClusterView>, Refusal> {
    if !caller.admin {
        return Err(Refusal::forbidden("this is for admins"));
    }
    let cluster = gateway.cluster.borrow().clone();
    let waiting = cluster.waiting.iter().map(|(model, count)| Waiting { model: model.clone(), count: *count }).collect();
    Ok(Json(ClusterView { node: gateway.node_id.to_string(), now: Time::now(), nodes: cluster.nodes.clone(), waiting }))
}

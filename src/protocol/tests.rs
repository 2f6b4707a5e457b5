//! The generated TypeScript is up to date, and absent is not null.

use super::*;
use crate::model::ModelInfo;
use ts_rs::TS;

/// The TypeScript of the web UI. Written by `UPDATE=1 cargo test typescript`.
const GENERATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/web/src/protocol.gen.ts");

fn typescript() -> String {
    let config = ts_rs::Config::new().with_large_int("number");
    macro_rules! declare {
        ($($name:ty),* $(,)?) => { [$(format!("export {}\n", <$name>::decl(&config))),*] };
    }
    let all = declare![
        ClientFrame,
        ServerFrame,
        Send,
        Known,
        Finished,
        Generation,
        Tail,
        ConversationChange,
        ErrorFrame,
        ErrorCode,
        Message,
        crate::model::Role,
        Status,
        Usage,
        crate::model::Timing,
        Failure,
        Options,
        Channel,
        Progress,
        Conversation,
        ErrorBody,
        List<ModelInfo>,
        CreateConversation,
        PatchConversation,
        PostMessage,
        Posted,
        HistoryItem,
        CancelAnswer,
        ModelInfo,
        NodeInfo,
        ClusterView,
        Waiting,
        Export,
        Imported,
        LoginMethods,
        LoginMethod,
        Login,
        Me,
        ApiKey,
        CreateApiKey,
        NewApiKey,
    ];
    format!("// Generated from src/protocol.rs by `UPDATE=1 cargo test typescript`. Not edited by hand.\n\n{}", all.join("\n"))
}

#[test]
fn typescript_is_up_to_date() {
    let fresh = typescript();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(GENERATED, &fresh).expect("the web folder can be written");
    }
    let held = std::fs::read_to_string(GENERATED).unwrap_or_default();
    assert!(held == fresh, "web/src/protocol.gen.ts is stale: run `UPDATE=1 cargo test typescript`");
}

#[test]
fn an_absent_parent_is_not_a_null_parent() {
    let parent = |text: &str| serde_json::from_str::<Send>(text).map(|send| send.parent).expect("a send");
    assert_eq!(parent(r#"{"request_id":"r","content":"c"}"#), None);
    assert_eq!(parent(r#"{"request_id":"r","content":"c","parent":null}"#), Some(None));
}

#[test]
fn a_list_may_be_absent_or_nothing() {
    for known in ["", r#","known":null"#, r#","known":[]"#] {
        let frame = serde_json::from_str::<ClientFrame>(&format!(r#"{{"type":"subscribe","conversation":"c"{known}}}"#))
            .expect("a frame");
        assert_eq!(frame, ClientFrame::Subscribe { conversation: "c".to_owned(), known: Vec::new() });
    }
}

//! What a node shows to whoever can reach it.

use crate::harness::node::{Node, world};
use crate::harness::rest::client;

#[tokio::test]
async fn every_answer_says_what_a_page_may_do() {
    let world = world();
    let node = Node::start("a", &world).await;
    for path in ["/", "/c/anything", "/api/models", "/api/nothing", "/assets/nothing.js"] {
        let answer = client().get(format!("http://{}{path}", node.address)).send().await.expect("an answer");
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        let policy = header("content-security-policy").expect("a policy");
        for rule in
            ["default-src 'self';", "object-src 'none';", "base-uri 'none';", "frame-ancestors 'none';", "form-action 'self'"]
        {
            assert!(policy.contains(rule), "{path}: {rule} in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"), "{path}");
        assert_eq!(header("referrer-policy").as_deref(), Some("no-referrer"), "{path}");
        assert_eq!(header("cross-origin-opener-policy").as_deref(), Some("same-origin"), "{path}");
        assert_eq!(header("server"), None, "{path}");
    }
}

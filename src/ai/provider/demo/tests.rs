//! The demonstration model's promises: computable, continuable at any byte, obedient.

use futures_util::StreamExt;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::ai::provider::Turn;
use crate::model::{ConversationId, Options, Role, Time};

fn generation() -> GenerationId {
    GenerationId::generate(&ConversationId::generate())
}

fn request(generation: &GenerationId, prompt: &str, so_far: &str) -> Request {
    let turns = vec![Turn { role: Role::User, content: prompt.to_owned() }];
    Request {
        generation: generation.clone(),
        options: Options::default(),
        turns,
        so_far: so_far.to_owned(),
        trace: crate::telemetry::traces::Parent::default(),
    }
}

#[derive(Default)]
struct Said {
    text: String,
    reasoning: String,
    usage: Option<Usage>,
    finish: Option<String>,
    fault: Option<Fault>,
}

async fn hear(mut pieces: Pieces) -> Said {
    let mut said = Said::default();
    while let Some(item) = pieces.next().await {
        match item {
            Ok(Piece::Text(text)) => said.text += &text,
            Ok(Piece::Reasoning(text)) => said.reasoning += &text,
            Ok(Piece::Usage(usage)) => said.usage = Some(usage),
            Ok(Piece::Finish(word)) => said.finish = Some(word),
            Err(fault) => said.fault = Some(fault),
        }
    }
    said
}

#[tokio::test(start_paused = true)]
async fn it_says_what_can_be_computed() {
    let generation = generation();
    for prompt in ["hello", "xin chào", "long", "thật dài, chậm", "/demo tokens=500 rate=0 reason=30"] {
        let said = hear(answer(&request(&generation, prompt, ""), None).unwrap()).await;
        assert_eq!(said.text, text(&generation, prompt));
        assert_eq!(said.reasoning, reasoning(&generation, prompt));
        assert_eq!(said.finish.as_deref(), Some("stop"));
        assert!(said.usage.unwrap().output_tokens > 100);
    }
}

#[test]
fn the_guide_speaks_the_users_language_and_says_how_to_connect() {
    let generation = generation();
    for (prompt, greeting) in [("What is this?", "demonstration"), ("Đây là gì?", "trình diễn")] {
        let text = text(&generation, prompt);
        for part in [
            greeting,
            "OPENAI_BASE_URL",
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "OLLAMA_HOST",
            "[[models]]",
            "|:--|",
            "```sh",
            "\n1. ",
        ] {
            assert!(text.contains(part), "{part} is missing from {text}");
        }
    }
}

#[test]
fn prose_has_vietnamese_and_emoji_and_differs_between_generations() {
    let (one, two) = (text(&generation(), "long"), text(&generation(), "long"));
    assert_ne!(one, two);
    assert!(one.contains('ộ') || one.contains('đ'));
    assert!(one.chars().any(|c| c.len_utf8() == 4));
    assert_eq!(one.matches("\n\n").count(), 2_000 / 13 / 5);
}

#[tokio::test(start_paused = true)]
async fn orders_are_obeyed() {
    let generation = generation();
    let started = Instant::now();
    let said = hear(answer(&request(&generation, "/demo tokens=100 rate=50 delay=500", ""), None).unwrap()).await;
    assert_eq!(said.usage.unwrap().output_tokens, 100);
    let took = started.elapsed().as_millis();
    assert!((2_400..2_600).contains(&took), "{took} ms");

    let said = hear(answer(&request(&generation, "/demo tokens=100 rate=0 fail=after:20", ""), None).unwrap()).await;
    let whole = text(&generation, "/demo tokens=100 rate=0 fail=after:20");
    assert!(whole.starts_with(&said.text) && said.text.len() < whole.len());
    assert_eq!(said.fault.unwrap().code, "upstream_error");

    let started = Instant::now();
    let said = hear(answer(&request(&generation, "silent=5s", ""), None).unwrap()).await;
    assert!(!said.text.is_empty() && started.elapsed().as_secs() >= 5);

    let mut never = answer(&request(&generation, "be silent", ""), None).unwrap();
    assert!(tokio::time::timeout(Duration::from_hours(1), never.next()).await.is_err());

    let said = hear(answer(&request(&generation, "long", ""), Some(10)).unwrap()).await;
    assert_eq!((said.finish.as_deref(), said.usage.unwrap().output_tokens), (Some("length"), 10));
}

#[tokio::test(start_paused = true)]
async fn stamped_tokens_say_when_they_were_made_and_go_on_at_any_byte() {
    let (generation, order) = (generation(), "/demo tokens=20 rate=0 stamp");
    let before = Time::now_us();
    let whole = hear(answer(&request(&generation, order, ""), None).unwrap()).await.text;
    assert_eq!(whole.len(), 20 * stamp::BYTES);
    for (at, token) in whole.as_bytes().chunks(stamp::BYTES).enumerate() {
        let (index, made) = stamp::read(token).unwrap();
        assert!(index == at && (before..=Time::now_us()).contains(&made), "{index} {made}");
    }
    for cut in [1, stamp::BYTES, 100, whole.len()] {
        let rest = hear(answer(&request(&generation, order, &whole[..cut]), None).unwrap()).await.text;
        let text = whole[..cut].to_owned() + &rest;
        assert_eq!(text.len(), whole.len());
        assert_eq!(stamp::find(&text), Some((20, 0)));
    }
    assert!(answer(&request(&generation, order, &(whole + "0")), None).is_none(), "it never said so much");
}

#[tokio::test(start_paused = true)]
async fn a_high_rate_is_kept_by_batches() {
    let prompt = "/demo tokens=30000 rate=20000";
    let generation = generation();
    let started = Instant::now();
    let mut pieces = answer(&request(&generation, prompt, ""), None).unwrap();
    let mut count = 0;
    while pieces.next().await.is_some() {
        count += 1;
    }
    let took = started.elapsed().as_millis();
    assert!((1_450..1_650).contains(&took), "{took} ms");
    assert!(count < 4_000, "{count} pieces");
}

#[test]
fn what_it_did_not_say_is_not_continued() {
    let generation = generation();
    assert!(answer(&request(&generation, "hello", "Something else"), None).is_none());
    let beyond = text(&generation, "hello") + "!";
    assert!(answer(&request(&generation, "hello", &beyond), None).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_goes_on_at_any_byte(at in 0.0..=1.0_f64, order in prop::sample::select(vec!["/demo rate=0", "/demo rate=0 tokens=90", "/demo rate=0 thời"])) {
        let generation = generation();
        let whole = text(&generation, order);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a length")]
        let cut = whole.floor_char_boundary((whole.len() as f64 * at) as usize);
        let pieces = answer(&request(&generation, order, &whole[..cut]), None).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let said = runtime.block_on(hear(pieces));
        prop_assert_eq!(format!("{}{}", &whole[..cut], said.text), whole);
    }
}

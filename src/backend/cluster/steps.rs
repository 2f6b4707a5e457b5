//! The atomic steps: each one Lua file, called by its digest, sent whole only to a server that does not know it.
//! It must not know what a step means.

use fred::types::Value;
use fred::types::scripts::Script;

/// One atomic step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) script: Script,
}

macro_rules! steps {
    ($($name:ident: $($file:literal)+,)*) => {
        #[derive(Debug)]
        pub(super) struct Steps { $(pub(super) $name: Step),* }

        impl Steps {
            pub(super) fn new() -> Self {
                Self { $($name: Step {
                    name: stringify!($name),
                    script: Script::from_lua(concat!($(include_str!(concat!("lua/", $file, ".lua"))),+)),
                }),* }
            }
        }
    };
}

steps! {
    account_add: "account_add",
    account_change: "account_change",
    account_changes: "account_changes",
    ahead: "ahead",
    alive: "alive",
    append: "append",
    archive_mark: "conversation" "archive_mark",
    archive_note: "conversation" "archive_note",
    archive_read: "conversation" "archive_read",
    begin: "bucket" "begin",
    bucket: "bucket" "bucket_take",
    cancel: "conversation" "cancel",
    create: "conversation" "create",
    delete: "conversation" "delete",
    due_drop: "due_drop",
    due_put: "due_put",
    due_take: "due_take",
    end: "end",
    enqueue: "enqueue",
    enter: "enter",
    evict: "conversation" "evict",
    finish: "conversation" "finish",
    hand: "hand",
    heartbeat: "heartbeat",
    hydrate_begin: "conversation" "hydrate_begin",
    hydrate_end: "conversation" "hydrate_end",
    hydrate_stage: "conversation" "hydrate_stage",
    intend: "intend",
    leave: "leave",
    messages: "conversation" "messages",
    older: "older",
    open: "conversation" "open",
    patch: "conversation" "patch",
    pass_issue: "pass_issue",
    pass_revoke: "pass_revoke",
    path: "conversation" "path",
    peek: "peek",
    pop: "pop",
    read: "read",
    release: "release",
    remember: "remember",
    renew: "renew",
    replace: "replace",
    settle: "settle",
    submit: "conversation" "submit",
    take: "conversation" "take",
    waiting: "waiting",
}

/// What a step answered, read from front to back. What isn't there reads as empty, and numbers that can't be read as `None`:
/// a script that answers less than it should is told by its caller as [`crate::backend::Error::Corrupt`].
#[derive(Debug)]
pub(super) struct Answer(std::vec::IntoIter<Value>);

impl Answer {
    pub(super) fn new(value: Value) -> Self {
        let items = match value {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            other => vec![other],
        };
        Self(items.into_iter())
    }

    /// The next text; `None` for nil and for what is not text.
    pub(super) fn text(&mut self) -> Option<String> {
        self.0.next().and_then(Value::into_string)
    }

    pub(super) fn word(&mut self) -> String {
        self.text().unwrap_or_default()
    }

    pub(super) fn number<N: std::str::FromStr>(&mut self) -> Option<N> {
        self.text().and_then(|text| text.parse().ok())
    }

    /// The next value, a list of its own.
    pub(super) fn list(&mut self) -> Self {
        Self::new(self.0.next().unwrap_or(Value::Null))
    }

    pub(super) fn texts(self) -> Vec<Option<String>> {
        self.0.map(Value::into_string).collect()
    }

    /// The lists that follow, each on its own.
    pub(super) fn lists(self) -> impl Iterator<Item = Self> {
        self.0.map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_from_front_to_back() {
        let inner = Value::Array(vec![Value::Null, Value::from("x")]);
        let mut answer = Answer::new(Value::Array(vec![Value::from("OK"), Value::from(7), inner, Value::from("9")]));
        assert_eq!(answer.word(), "OK");
        assert_eq!(answer.number::<u64>(), Some(7));
        assert_eq!(answer.list().texts(), vec![None, Some("x".to_owned())]);
        assert_eq!(answer.number::<u64>(), Some(9));
        assert_eq!(answer.word(), "");
        assert_eq!(answer.number::<u64>(), None);
    }
}

//! What the demonstration model says when it is told nothing else: who it is, and how to connect a real one. Pure.

/// Characters of a token at most; like a model's, most are words with their space.
const TOKEN_CHARS_MAX: usize = 6;

const ENGLISH: Guide = Guide {
    openings: &[
        "## Hello! I am the demonstration model\n\n",
        "## Nice to meet you: this is the demonstration model\n\n",
        "## A demonstration, not an answer\n\n",
    ],
    body: "\
No real model is connected to this node yet, so **these words come from a script** inside chatnode and don't answer your \
question. Everything around them is real: each token is stored before you see it. Reload the page in the middle, open a \
second tab, pull the network cable: *the answer goes on*.

### Connect a real model

Stop chatnode, set what fits, and start it again:

| You have | Set |
|:--|:--|
| OpenAI, or a server that speaks its API (llama.cpp, vLLM, LM Studio, …) | `OPENAI_BASE_URL` and/or `OPENAI_API_KEY` |
| Anthropic | `ANTHROPIC_API_KEY` |
| Ollama on this machine | nothing: it is found on port 11434 |
| Ollama elsewhere | `OLLAMA_HOST` |

For example:

```sh
export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
chatnode
```

Several models, fallbacks and deadlines go into `[[models]]` of the configuration file; `chatnode check-config` shows what \
is in force.

### Meanwhile, try me

1. **`long`** in your question: some 2,000 tokens of prose, with tiếng Việt and emoji 🌱 in it.
2. **`slow`**: ten tokens a second. Good for pressing *Stop*.
3. **`reason`**: thinks aloud before it answers.
4. **`silent`**: says nothing until its deadline. **`fail`**: fails.

Or exactly, on a line of its own:

```text
/demo tokens=2000 rate=50 delay=500 reason=50
```

",
    closings: &[
        "See you on the other side of a reload! ✨",
        "Now close this tab in the middle of a *long* answer. 🙂",
        "Have fun! 🚀",
    ],
};

const VIETNAMESE: Guide = Guide {
    openings: &[
        "## Xin chào! Tôi là mô hình trình diễn\n\n",
        "## Rất vui được gặp bạn: đây là mô hình trình diễn\n\n",
        "## Một màn trình diễn, chưa phải câu trả lời\n\n",
    ],
    body: "\
Nút này chưa được nối với mô hình thật nào, nên **những dòng này đến từ một kịch bản** có sẵn trong chatnode và không trả lời \
câu hỏi của bạn. Mọi thứ xung quanh đều là thật: mỗi token được lưu lại trước khi bạn nhìn thấy nó. Hãy tải lại trang giữa \
chừng, mở thêm một thẻ, rút dây mạng: *câu trả lời vẫn tiếp tục*.

### Kết nối một mô hình thật

Dừng chatnode, đặt biến phù hợp rồi khởi động lại:

| Bạn có | Đặt |
|:--|:--|
| OpenAI, hoặc máy chủ dùng cùng API (llama.cpp, vLLM, LM Studio, …) | `OPENAI_BASE_URL` và/hoặc `OPENAI_API_KEY` |
| Anthropic | `ANTHROPIC_API_KEY` |
| Ollama trên máy này | không cần gì: nó được tìm thấy ở cổng 11434 |
| Ollama ở máy khác | `OLLAMA_HOST` |

Ví dụ:

```sh
export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
chatnode
```

Nhiều mô hình, máy chủ dự phòng và thời hạn được khai báo trong `[[models]]` của tệp cấu hình; `chatnode check-config` cho \
thấy những gì đang có hiệu lực.

### Trong lúc chờ, hãy thử tôi

1. **`dài`** trong câu hỏi: khoảng 2.000 token văn xuôi, có cả emoji 🌱.
2. **`chậm`**: mười token mỗi giây, tiện để bấm *Dừng*.
3. **`suy nghĩ`**: nghĩ thành lời trước khi trả lời.
4. **`im lặng`**: không nói gì cho đến hết thời hạn. **`lỗi`**: báo lỗi.

Hoặc thật chính xác, trên một dòng riêng:

```text
/demo tokens=2000 rate=50 delay=500 reason=50
```

",
    closings: &[
        "Hẹn gặp lại sau khi bạn tải lại trang! ✨",
        "Giờ hãy đóng thẻ này giữa một câu trả lời *dài*. 🙂",
        "Chúc bạn vui! 🚀",
    ],
};

struct Guide {
    openings: &'static [&'static str],
    body: &'static str,
    closings: &'static [&'static str],
}

/// The guide as tokens; the seed chooses how it opens and closes.
pub(super) fn tokens(vietnamese: bool, seed: u64) -> Vec<&'static str> {
    let guide = if vietnamese { &VIETNAMESE } else { &ENGLISH };
    let parts = [choose(guide.openings, seed), guide.body, choose(guide.closings, seed >> 32)];
    let mut tokens = Vec::with_capacity(1_000);
    for part in parts {
        cut(part, &mut tokens);
    }
    tokens
}

fn choose(from: &'static [&'static str], seed: u64) -> &'static str {
    #[expect(clippy::cast_possible_truncation, reason = "below the number of choices")]
    let chosen = (seed % from.len() as u64) as usize;
    from[chosen]
}

/// A token begins where a word's space stands, or when the one before it is long enough.
fn cut(text: &'static str, tokens: &mut Vec<&'static str>) {
    let (mut start, mut chars, mut before) = (0, 0, ' ');
    for (at, c) in text.char_indices() {
        if at > start && (chars == TOKEN_CHARS_MAX || (c.is_whitespace() && !before.is_whitespace())) {
            tokens.push(&text[start..at]);
            (start, chars) = (at, 0);
        }
        (chars, before) = (chars + 1, c);
    }
    if start < text.len() {
        tokens.push(&text[start..]);
    }
}

/** What models answer with. */

export const RICH = `# Đường về nhà

A paragraph with **bold**, *italic*, ~~struck~~, \`code\`, a [link](https://example.org) and a formula $e^{i\\pi} = -1$.

## Lists

1. first
2. second
   - nested
   - [x] done
   - [ ] not yet

> A quotation that is long enough to go over more than one line on a narrow screen, and that ends here.

\`\`\`python
def primes(limit: int) -> list[int]:
    """Every prime below the limit; a line that is too long for a phone and is scrolled, not broken."""
    return [n for n in range(2, limit) if all(n % d for d in range(2, n))]
\`\`\`

| | Redis | NATS |
|---|---:|:---:|
| role | storage and leases | hints between nodes, which may be lost |
| speed | 650 k/s | 1 M/s |

$$\\int_0^1 x^2\\,dx = \\frac{1}{3}$$

![A picture from elsewhere](https://example.org/picture.png)

---

The end, with <b>markup</b> that is shown as it was written.`;

/** Callouts and footnotes. */
export const NOTES = `Redis giữ dữ liệu trong bộ nhớ,[^1] NATS chuyển tin giữa các máy.[^2]

> [!NOTE]
> Cả hai đều có thể chạy thành cụm, và \`redis.conf\` nằm ở [tài liệu](https://example.org).

> [!TIP]
> A tip with a list:
> - one
> - two

> [!IMPORTANT]
> Đặt mật khẩu trước khi mở cổng ra ngoài.

> [!WARNING]
> \`FLUSHALL\` deletes everything:
>
> \`\`\`sh
> redis-cli FLUSHALL
> \`\`\`

> [!CAUTION]
> لا يمكن التراجع عن هذا.

> A plain quote beside them.

[^1]: Mặc định không ghi xuống đĩa sau mỗi lệnh; xem *appendfsync* và https://example.org/persistence.
[^2]: JetStream giữ tin lâu hơn một lần chuyển.`;

export const LONG_TITLE =
  "Một cuộc trò chuyện có tiêu đề dài đến mức không chỗ nào hiện hết được, kể cả trên màn hình rộng";

/** What is wider than any page: each scrolls in its own box, and the page itself never sideways. */
export const WIDE = `A name without a gap: ${"địa_chỉ_rất_dài/".repeat(14)}, and https://example.org/${"a".repeat(160)}.

| ${Array.from({ length: 12 }, (_, i) => `Cột số ${i + 1}`).join(" | ")} |
|${"---|".repeat(12)}
| ${Array.from({ length: 12 }, (_, i) => `giá trị ${i * 1_000}`).join(" | ")} |

$$${Array.from({ length: 24 }, (_, i) => `x_{${i}}^2`).join(" + ")} = \\sum_{i=0}^{23} x_i^2$$

Inline: $${Array.from({ length: 20 }, (_, i) => `a_{${i}}`).join(" + ")}$ goes on.

> > > Deep, deep: \`${"không_ngắt_được".repeat(8)}\`
> > >
> > > \`\`\`
> > > ${"một dòng không bao giờ hết ".repeat(8)}
> > > \`\`\`

1. ${"# ".repeat(3)}an item with a listing

   \`\`\`json
   {"khóa": "${"giá trị ".repeat(20)}"}
   \`\`\`
`;

/** Arabic and Hebrew among Latin: each block goes the way it is written, and code from left to right. */
export const RIGHT_TO_LEFT = `## كيف يتكوّن قوس قزح؟

يتكوّن **قوس قزح** عندما تنكسر أشعة الشمس داخل قطرات المطر (H₂O).

1. ينكسر الضوء عند دخوله القطرة
2. ينعكس على سطحها الداخلي
   - ثم ينكسر مرة أخرى
   - [x] انتهى

> הצבעים מופיעים תמיד באותו הסדר: אדום, כתום, צהוב.

| اللون | nm |
|---|---|
| أحمر | 700 |

\`\`\`python
print("قوس قزح")
\`\`\`

And a paragraph in English, from left to right.`;

//! Prose without end: one token for each index, grammatical, never quite the same. Pure.
//!
//! A sentence has as many tokens as its pattern has slots, so a token is found without walking. Part of it is always
//! Vietnamese and some ends in emoji: whoever cuts bytes in the wrong place shall notice.

const SENTENCES_IN_PARAGRAPH: usize = 5;

/// Every pattern has this many slots; what parts two sentences is one token more.
const SLOTS: usize = 12;

type Slot = &'static [&'static str];

const ENGLISH: [Slot; SLOTS] = [
    &["The", "A", "Every", "Another", "This", "That"],
    &[" quiet", " bright", " wandering", " patient", " silver", " curious", " half-forgotten", " tall"],
    &[" river", " lantern", " train", " gardener", " harbour", " sparrow", " letter", " café"],
    &[" carries", " follows", " remembers", " crosses", " repairs", " gathers", " paints", " measures"],
    &[" seven", " a few", " countless", " two", " the last", " some"],
    &[" warm", " paper", " distant", " small", " salted", " golden"],
    &[" clouds", " boats", " stories", " windows", " songs", " footsteps", " seeds"],
    &[" past", " under", " beyond", " behind", " towards", " across"],
    &[" the"],
    &[" old", " sleeping", " northern", " wooden", " crowded", " empty"],
    &[" bridge", " market", " hillside", " station", " library", " island"],
    &[".", ".", ".", ".", "!", " 🌿.", " — slowly.", " ✨."],
];

const VIETNAMESE: [Slot; SLOTS] = [
    &["Mỗi", "Một", "Những", "Chiếc", "Bóng", "Giọng"],
    &[" dòng sông", " ngọn đèn", " cơn gió", " con thuyền", " khu vườn", " tiếng hát", " buổi chiều"],
    &[" lặng lẽ", " chậm rãi", " rực rỡ", " xa xôi", " dịu dàng", " bền bỉ"],
    &[" chở", " gom", " vẽ", " gọi", " giữ", " kể"],
    &[" những", " vài", " muôn", " từng"],
    &[" đám mây", " câu chuyện", " cánh buồm", " hạt mưa", " ô cửa", " bước chân", " ký ức"],
    &[" nhỏ", " vàng", " ấm", " cũ", " trong", " mỏng"],
    &[" đi qua", " trở về", " bay ngang", " nằm dưới", " tới gần"],
    &[" cây cầu", " khu chợ", " sườn đồi", " nhà ga", " thư viện", " hòn đảo"],
    &[" phía bắc", " ven biển", " ngày xưa", " cuối phố", " đầu làng"],
    &[" thật", " rất", " khá", " luôn"],
    &[" êm.", " đẹp.", " yên.", " lạ!", " vui 🎏.", " xanh 🌾."],
];

/// The token at `index` of the prose that `seed` stands for.
pub(super) fn token(seed: u64, index: usize, vietnamese: bool) -> &'static str {
    let (sentence, slot) = (index / (SLOTS + 1), index % (SLOTS + 1));
    if slot == SLOTS {
        return if (sentence + 1).is_multiple_of(SENTENCES_IN_PARAGRAPH) { "\n\n" } else { " " };
    }
    let table = if in_vietnamese(seed, sentence, vietnamese) { &VIETNAMESE } else { &ENGLISH };
    pick(seed, index, table[slot])
}

/// SplitMix64: turns what differs in one bit into what differs everywhere.
pub(super) fn spread(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn in_vietnamese(seed: u64, sentence: usize, mostly: bool) -> bool {
    let share = if mostly { 80 } else { 20 };
    spread(seed ^ 0x5e47 ^ (sentence as u64) << 20) % 100 < share
}

fn pick(seed: u64, index: usize, slot: Slot) -> &'static str {
    let many = slot.len() as u64;
    #[expect(clippy::cast_possible_truncation, reason = "below the length of the slot")]
    let chosen = (spread(seed ^ index as u64) % many) as usize;
    slot[chosen]
}

//! The dialogue's own corners; whole dialogues are in `tests/wire/mqtt`.

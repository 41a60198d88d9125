//! What lint says of one definition, for the tests of its rules.

use crate::config::load;
use crate::config::problem::Problem;

/// All that is said of a definition without errors.
pub fn all(text: &str) -> Vec<String> {
    let outcome = load::read("web", "web.toml", text.as_bytes());
    assert!(outcome.definition.is_some(), "{:?}", outcome.problems);
    outcome.problems.iter().map(Problem::to_string).collect()
}

/// One thing is said, of this place.
pub fn once(text: &str, place: &str, part: &str) {
    let all = all(text);
    assert!(
        all.len() == 1 && all[0].starts_with(place) && all[0].contains(part),
        "{text}\n{all:#?}"
    );
}

pub fn never(text: &str) {
    assert_eq!(all(text), Vec::<String>::new(), "{text}");
}

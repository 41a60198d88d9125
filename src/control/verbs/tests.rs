//! The rules of the table.

use super::*;

#[test]
fn rows_keep_the_rules_that_the_loops_over_them_rely_on() {
    for (n, verb) in VERBS.iter().enumerate() {
        for other in &VERBS[..n] {
            assert!(verb.words != other.words && verb.method != other.method);
        }
        assert!(!verb.summary.ends_with('.') && verb.help.ends_with('.'));
        let mut optional = false;
        let mut options = false;
        let mut list = false;
        for arg in verb.args {
            assert!(!(arg.required && optional), "{}: {}", verb.words, arg.name);
            optional |= !arg.required;
            match arg.form {
                Form::Position => {
                    assert!(!options && arg.kind != Kind::Flag, "{}", verb.words);
                    assert!(!list, "{}: nothing stands after a list", verb.words);
                    list = arg.kind.is_list();
                }
                Form::Option { .. } => options = true,
            }
        }
    }
}

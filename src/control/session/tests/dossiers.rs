//! Whose dossiers a client may see: those of services whose logs it may read.

use super::*;
use crate::control::calls::DossiersAsked;

fn asked(talk: &Talk) -> Option<&DossiersAsked> {
    match talk.errands.as_slice() {
        [Errand::Dossiers { asked, .. }] => Some(asked),
        _ => None,
    }
}

#[test]
fn a_right_to_one_service_shows_its_dossiers_alone() {
    let grant = Grant {
        who: Who::Anyone,
        level: Level::Read,
        service: Some("web".into()),
    };
    let rights = Rights {
        owner: 1,
        grants: vec![grant],
    };
    let ask = |line: &str| {
        let mut talk = Talk::with(rights.of(9, &[]));
        let answer = talk.say(line);
        assert_eq!(
            is_denied(&answer),
            asked(&talk).is_none(),
            "{line}: {answer}"
        );
        asked(&talk).cloned()
    };
    let show = |id: &str| {
        let params = json!({ "id": id }).to_string();
        ask(&call("dossier.get", &params, "1"))
    };
    let own = show("web-20261129T101359-r3").expect("its own");
    assert_eq!(own.id.as_deref(), Some("web-20261129T101359-r3"));
    assert!(show("web").is_some());
    for other in [
        "db",
        "db-20261129T101359-r3",
        "web-2",
        "web-x-20261129T101359-r3",
        "",
    ] {
        assert_eq!(show(other), None, "{other}");
    }
    let list = ask(&call("dossier.list", "{}", "1")).expect("a list");
    assert!(list.wants("web") && !list.wants("db"));
    assert!(ask(&call("dossier.list", r#"{"name":"db"}"#, "1")).is_none());
}

#[test]
fn who_may_read_all_sees_also_those_of_services_that_are_no_more() {
    let mut talk = Talk::with(Access::only(Level::Read));
    talk.say("dossier list");
    assert!(asked(&talk).expect("a list").wants("gone"));
    let mut talk = Talk::with(Access::only(Level::Read));
    talk.say("dossier show gone-20261129T101359-r3");
    assert!(asked(&talk).is_some());
    let json = r#"{"id":"gone-20261129T101359-r3","service":"gone","summary":"stuck"}"#;
    let shape = crate::control::verbs::Shape::Dossier;
    talk.session.told(talk.ticket(0), shape, json);
    let out = talk.out();
    assert!(
        out.contains("stuck on  stuck") && out.ends_with("ok\n"),
        "{out}"
    );
}

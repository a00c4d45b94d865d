//! Rule files: what is refused, and where.

use proptest::prelude::*;

use super::*;

const GOOD: &str = "format = 1\nid = \"ours\"\nversion = 3\ntitle = \"Ours\"\n\n[[poor]]\n\
    metric = \"jitter\"\nabove = \"30 ms\"\nsource = \"we\"\n";

fn refused(text: &str) -> String {
    read(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_built_in_reads() {
    for id in built_in_ids() {
        let text = built_in_text(id).unwrap();
        let rules = read_built_in(text).unwrap();
        assert_eq!((rules.name.id.as_str(), rules.name.version), (id, 1));
        // An unchanged copy is the same set.
        assert_eq!(read(text.as_bytes()).unwrap(), rules);
    }
}

#[test]
fn own_rules_have_the_format_of_the_built_in_ones() {
    let rules = read(GOOD.as_bytes()).unwrap();
    let bound = Bound { relation: Relation::Above, steps: 300 };
    assert_eq!(rules.poor, [Rule { metric: Metric::Jitter, bound, source: "we".to_owned() }]);
    assert_eq!((rules.name.version, rules.name.hash.len()), (3, 16));
    let other = read(GOOD.replace("30 ms", "31 ms").as_bytes()).unwrap();
    assert_ne!(other.name.hash, rules.name.hash, "the name tells two contents apart");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (from, to, expected) in [
        ("format = 1", "format = 2", "line 1: format 2 is not known, use 1"),
        ("id = \"ours\"", "id = \"Ours\"", "line 2: an id has 1 to 32 of a-z, 0-9 and `-`"),
        ("version = 3", "version = 0", "line 3: use a whole number in 1..=1000000"),
        ("title = \"Ours\"", "title = \"\"", "line 4: use 1 to 200 characters"),
        ("title = \"Ours\"", "title = \"\\u001b[2J\"", "line 4: use 1 to 200 characters"),
        ("\"jitter\"", "\"jiter\"", "line 7: no such metric: use one of jitter, loss"),
        ("above = \"30 ms\"", "above = 30", "line 8: "),
        ("above = \"30 ms\"", "above = \"30\"", "line 8: use a number like \"5000 ms\""),
        ("above = \"30 ms\"", "above = \"30.05 ms\"", "with digits behind the point: 1 or fewer"),
        ("above = \"30 ms\"", "above = \"-1 ms\"", "line 8: use a number"),
        ("above = \"30 ms\"", "at_least = \"0 ms\"", "line 8: at least 0 is everything"),
        ("above = \"30 ms\"", "beyond = \"30 ms\"", "line 8: unknown field `beyond`"),
        ("above = \"30 ms\"\n", "", "line 7: it takes either `above` or `at_least`"),
        ("source = \"we\"\n", "", "missing field `source`"),
        ("[[poor]]", "[poor]", "line 6: "),
        ("id = \"ours\"", "id = \"seed-1\"", "id `seed-1` is that of a built-in rule set"),
    ] {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{from}");
        let found = refused(&text);
        assert!(found.contains(expected), "{from} -> {to}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn rules_that_say_nothing_or_twice_are_refused() {
    let (head, rule) = GOOD.split_at(GOOD.find("[[poor]]").unwrap());
    assert!(refused(head).contains("nothing makes a call poor"));
    let twice = format!("{GOOD}{rule}");
    assert_eq!(refused(&twice), "line 11: `jitter` makes poor by an earlier rule already");
    let items = "[[item]]\nmetric = \"loss\"\ncolour = \"red\"\nabove = \"0.1\"\nsource = \"we\"\n";
    let full = format!("{GOOD}{}", items.repeat(RULES_MAX));
    assert_eq!(read(full.as_bytes()).unwrap().items.len(), RULES_MAX);
    let over = format!("{full}{items}");
    assert_eq!(refused(&over), "65 rules `item`, a rule set has at most 64");
}

#[test]
fn files_that_are_none_are_refused_whole() {
    assert_eq!(read(&[0xff]), Err(RuleFileError::NotUtf8));
    let large = vec![b'#'; FILE_BYTES_MAX + 1];
    assert_eq!(read(&large), Err(RuleFileError::TooLarge { found: FILE_BYTES_MAX + 1 }));
}

#[test]
fn bounds_are_exact() {
    assert_eq!(steps("0.005", Unit::Ratio), Some(5_000));
    assert_eq!(steps("1", Unit::Ratio), Some(1_000_000));
    assert_eq!(steps("1.000001", Unit::Ratio), None);
    assert_eq!(steps("99999999999999999999", Unit::Mos), None);
    assert_eq!(steps(".5", Unit::Mos), None);
    assert_eq!(steps("1 per 5 min", Unit::PerFiveMinutes), Some(10));
}

proptest! {
    /// Whatever stands in a file: one line of an answer, and what is read is what can be written again.
    #[test]
    fn no_file_is_too_strange(cut in 0usize..400, noise in ".{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let text = built_in_text("seed-1").unwrap();
        let at = text.char_indices().map(|(at, _)| at).nth(cut).unwrap();
        let mixed = format!("{}{noise}{}", &text[..at], &text[at..]);
        for bytes in [mixed.as_bytes(), &text.as_bytes()[at..], &bytes] {
            if let Err(error) = read(bytes) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn steps_read_back_as_they_were_written(
        unit in prop::sample::select(vec![Unit::Milliseconds, Unit::Ratio, Unit::Mos, Unit::PerFiveMinutes]),
        share in 0u64..=1_000_000,
    ) {
        let value = unit.steps_max() * share / 1_000_000;
        prop_assert_eq!(steps(&unit.text(value), unit), Some(value));
    }
}

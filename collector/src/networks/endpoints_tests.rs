//! The endpoint file: each wrong row by its line, and names as they are.

use super::*;

fn read(file: &str) -> Reading<Endpoints> {
    Endpoints::read(file.as_bytes()).unwrap()
}

#[test]
fn machine_is_found_by_its_exact_name() {
    let Reading { table, account } =
        read("\u{feff}ROOM-1,Contoso,\"Bar, large\",MTR,Oslo,4th,\nroom-1,,,,,,\nA,,,,,,");
    assert!(account.findings.is_empty());
    let it = Endpoint {
        line: 1,
        name: "ROOM-1",
        make: "Contoso",
        model: "Bar, large",
        kind: "MTR",
        labels: ["Oslo", "4th", ""],
    };
    assert_eq!(table.lookup("ROOM-1"), Some(it));
    assert_eq!(table.lookup("room-1").map(|it| it.line), Some(2));
    assert_eq!((table.lookup("Room-1"), table.endpoints()), (None, 3));
}

#[test]
fn each_mistake_is_told_by_its_line_and_good_rows_stay() {
    let long = "ø".repeat(65);
    let just = "ø".repeat(64);
    let lines: [(String, &str, &str); 11] = [
        ("EndpointName,EndpointMake,EndpointModel,EndpointType,L1,L2,L3".into(), "", "header"),
        ("a,,,,,,".into(), "", ""),
        ("b,m,t,1,2,3".into(), "", "6 columns as in older files"),
        ("c,,,,,,,".into(), "", "8 columns where 7"),
        (",,,,,,".into(), "EndpointName", "is empty"),
        (format!("d,{long},,,,,"), "EndpointMake", "65 characters, at most 64"),
        (format!("e,{just},,,,,"), "", ""),
        ("a,,,,,,".into(), "EndpointName", "line 2 has this name"),
        ("f,,\u{1b}[2J,,,,".into(), "EndpointModel", "control character"),
        ("g,\",,,,,".into(), "", "quote does not end"),
        ("h ,,,,,,".into(), "EndpointName", "ends with a space"),
    ];
    let file: Vec<_> = lines.iter().map(|(line, _, _)| line.as_str()).collect();
    let Reading { table, account } = read(&file.join("\n"));
    let mut told = account.findings.iter();
    for (line, (_, column, piece)) in (1..).zip(&lines).filter(|(_, it)| !it.2.is_empty()) {
        let finding = told.next().unwrap();
        assert_eq!((finding.line, finding.column.unwrap_or_default()), (line, *column));
        assert!(finding.what.to_string().contains(piece), "line {line}: {}", finding.what);
    }
    assert_eq!(told.next(), None);
    // a, e and `h ` are kept.
    assert_eq!((account.rows, account.dropped, table.endpoints()), (11, 8, 3));
}

//! What a Clay row may look like, and what Loops gets of it.

use relay_tests::eventually;
use relay_tests::far_end::FarEnd;
use relay_tests::row::{Route, send};

use super::rows::{loops, relay_to};

/// One case a line: `put` or `post` for the route, maybe with a query, the body as it is sent, `=>`, and either the JSON
/// that Loops gets or the status, the code and the field of the refusal (`-` for none).
///
/// `ID` stands for digits of the case's own, by which its call is found at Loops. Control characters are written as
/// their pictures: `␊` is a line break, `␍` a carriage return, `␉` a tab, `␀` a NUL, and `BOM` is a byte-order mark.
const TABLE: &str = r##"
# What is fine is passed on untouched.
put  {"email":"ID@x.co"}  =>  {"email":"ID@x.co"}
put  {"z":" two words ","email":"ID@x.co","a":true,"b":false,"c":-1}  =>  {"z":" two words ","email":"ID@x.co","a":true,"b":false,"c":-1}
put  {"email":"ID@x.co","path":"/home","note":"NULL","hi":"Hi {{name}}","see":"a [object Object]","no":"{Company}"}  =>  {"email":"ID@x.co","path":"/home","note":"NULL","hi":"Hi {{name}}","see":"a [object Object]","no":"{Company}"}
put  {"email":"ID@x.co","quote":"He said \"hi\" \\ \u00e9 \ud83d\ude00"}  =>  {"email":"ID@x.co","quote":"He said \"hi\" \\ é 😀"}
put  {"email":"ID@x.co","eventName":"of a contact"}  =>  {"email":"ID@x.co","eventName":"of a contact"}
post {"userId":"ID","eventName":"x","company":"Ltd"}  =>  {"userId":"ID","eventName":"x","company":"Ltd"}

# Objects as Clay makes them.
put  BOM{"email":"ID@x.co"}  =>  {"email":"ID@x.co"}
put   {␊␉"email" : "ID@x.co"␍␊} ␊  =>  {"email":"ID@x.co"}
put  {"email":"ID@x.co","bio":"one␊two␍␊␉three"}  =>  {"email":"ID@x.co","bio":"one\ntwo\r\n\tthree"}
put  {"email":"ID@x.co","bi␊o":"␀"}  =>  {"email":"ID@x.co","bi\no":"\u0000"}
put  "{\"email\":\"ID@x.co\",\"n\":1.0}"  =>  {"email":"ID@x.co","n":1.0}
put  "{\"email\":\"ID@x.co\",␊\"bio\":\"one␊two\"}"  =>  {"email":"ID@x.co","bio":"one\ntwo"}
put  "{\"email\":\"ID@x.co\",\"bio\":\"one\\ntwo\"}"  =>  {"email":"ID@x.co","bio":"one\ntwo"}
post "{\"email\":\"ID@x.co\",\"eventName\":\"x\"}"  =>  {"email":"ID@x.co","eventName":"x"}
put  "BOM{\"email\":\"ID@x.co\"}"  =>  {"email":"ID@x.co"}

# What is no object.
put   =>  400 invalid_json -
put   ␊  =>  400 invalid_json -
put  null  =>  400 invalid_json -
put  [{"email":"ID@x.co"}]  =>  400 invalid_json -
put  "email"  =>  400 invalid_json -
put  "[{}]"  =>  400 invalid_json -
put  "\"{\\\"email\\\":\\\"ID@x.co\\\"}\""  =>  400 invalid_json -
put  email=ID@x.co  =>  400 invalid_json -

# Broken JSON.
put  {"email":"ID@x.co","bio":"He said "hi""}  =>  400 invalid_json bio
put  {"email":ID@x.co}  =>  400 invalid_json email
put  {"email":"ID@x.co","n":}  =>  400 invalid_json n
put  {"email":"ID@x.co","n":01}  =>  400 invalid_json n
put  {"email":"ID@x.co",}  =>  400 invalid_json email
put  {"email":"ID@x.co"  =>  400 invalid_json email
put  {'email':'ID@x.co'}  =>  400 invalid_json -
post {"email":"ID@x.co","eventName":"x","eventProperties":{"plan":pro}}  =>  400 invalid_json plan

# Blanks are left out, or clear the property.
put  {"email":"ID@x.co","a":null,"b":"","c":"  ","d":"null","e":"undefined","f":" null ","g":"␊␉"}  =>  {"email":"ID@x.co"}
put  {"email":"ID@x.co","a":0,"b":false,"c":"0","d":"-","e":"Null","f":"UNDEFINED"}  =>  {"email":"ID@x.co","a":0,"b":false,"c":"0","d":"-","e":"Null","f":"UNDEFINED"}
put?blank=omit  {"email":"ID@x.co","a":""}  =>  {"email":"ID@x.co"}
put?blank=clear  {"email":"ID@x.co","a":null,"b":"","c":"  ","d":"null","e":"undefined"}  =>  {"email":"ID@x.co","a":null,"b":null,"c":null,"d":null,"e":null}
put?blank=clear  {"email":"ID@x.co","userId":""}  =>  {"email":"ID@x.co"}
put?blank=clear  {"email":"null","userId":"ID"}  =>  {"userId":"ID"}
post?blank=clear  {"email":"ID@x.co","eventName":" "}  =>  400 missing_field eventName
post?blank=clear  {"email":"ID@x.co","eventName":"x","eventProperties":{"a":"","b":1}}  =>  {"email":"ID@x.co","eventName":"x","eventProperties":{"a":null,"b":1}}
post {"email":"ID@x.co","eventName":"x","eventProperties":{"a":"","b":"null","c":1}}  =>  {"email":"ID@x.co","eventName":"x","eventProperties":{"c":1}}
put?blank=clear  {"email":"ID@x.co","subscribed":"","mailingLists":{"l":"","m":true}}  =>  {"email":"ID@x.co","subscribed":null,"mailingLists":{"m":true}}

# Columns that were not inserted.
put  {"email":"ID@x.co","company":"[object Object]"}  =>  400 column_not_inserted company
put  {"email":"ID@x.co","company":"{{Company}}"}  =>  400 column_not_inserted company
put  {"email":"ID@x.co","company":" {{Company Name}} "}  =>  400 column_not_inserted company
put  {"email":"{{Email}}"}  =>  400 column_not_inserted email
put  {"email":"/Email"}  =>  400 column_not_inserted email
put  {"email":"ID@x.co","userId":"/User Id"}  =>  400 column_not_inserted userId
post {"email":"ID@x.co","eventName":"/Event"}  =>  400 column_not_inserted eventName
put  {"email":"ID@x.co","mailingLists":"[object Object]"}  =>  400 column_not_inserted mailingLists
post {"email":"ID@x.co","eventName":"x","eventProperties":"[object Object]"}  =>  400 column_not_inserted eventProperties
post {"email":"ID@x.co","eventName":"x","eventProperties":{"plan":"{{Plan}}"}}  =>  400 column_not_inserted eventProperties.plan
put  {"email":"ID@x.co","website":"/about","subscribed":"{{Subscribed}}"}  =>  400 column_not_inserted subscribed

# email and userId.
put  {"email":" ID@x.co␊"}  =>  {"email":"ID@x.co"}
put  {"email":"ID.O'Hara+a/b@sub.x.co.uk"}  =>  {"email":"ID.O'Hara+a/b@sub.x.co.uk"}
put  {"email":"ID"}  =>  400 invalid_field email
put  {"email":"ID@x"}  =>  400 invalid_field email
put  {"email":"@x.co"}  =>  400 invalid_field email
put  {"email":"ID@x.co, b@x.co"}  =>  400 invalid_field email
put  {"email":"Ada <ID@x.co>"}  =>  400 invalid_field email
put  {"email":"ID @x.co"}  =>  400 invalid_field email
put  {"email":7}  =>  400 invalid_field email
put  {"email":["ID@x.co"]}  =>  400 invalid_field email
put  {}  =>  400 missing_field email
put  {"email":"","userId":null,"firstName":"Ada"}  =>  400 missing_field email
post {"eventName":"x"}  =>  400 missing_field email
put  {"userId":ID}  =>  {"userId":"ID"}
put  {"email":"ID@x.co","userId":123456789012345678901}  =>  {"email":"ID@x.co","userId":"123456789012345678901"}
put  {"email":"ID@x.co","userId":true}  =>  400 invalid_field userId
put  {"email":"","userId":"ID"}  =>  {"userId":"ID"}
post {"email":"ID@x.co"}  =>  400 missing_field eventName
post {"email":"ID@x.co","eventName":7}  =>  400 invalid_field eventName

# subscribed.
put  {"email":"ID@x.co","subscribed":"true"}  =>  {"email":"ID@x.co","subscribed":true}
put  {"email":"ID@x.co","subscribed":"FALSE"}  =>  {"email":"ID@x.co","subscribed":false}
put  {"email":"ID@x.co","subscribed":"True"}  =>  {"email":"ID@x.co","subscribed":true}
put  {"email":"ID@x.co","subscribed":false}  =>  {"email":"ID@x.co","subscribed":false}
put  {"email":"ID@x.co","subscribed":""}  =>  {"email":"ID@x.co"}
put  {"email":"ID@x.co","subscribed":"yes"}  =>  400 invalid_field subscribed
put  {"email":"ID@x.co","subscribed":1}  =>  400 invalid_field subscribed
put  {"email":"ID@x.co","subscribed":["true"]}  =>  400 invalid_field subscribed
post {"email":"ID@x.co","eventName":"x","subscribed":"tRuE"}  =>  {"email":"ID@x.co","eventName":"x","subscribed":true}

# mailingLists.
put  {"email":"ID@x.co","mailingLists":{"a":true,"b":false}}  =>  {"email":"ID@x.co","mailingLists":{"a":true,"b":false}}
put  {"email":"ID@x.co","mailingLists":{"a":"true","b":"False","c":"","d":null,"e":"undefined"}}  =>  {"email":"ID@x.co","mailingLists":{"a":true,"b":false}}
put  {"email":"ID@x.co","mailingLists":["a","b","",null]}  =>  {"email":"ID@x.co","mailingLists":{"a":true,"b":true}}
put  {"email":"ID@x.co","mailingLists":"{\"a\":true,\"b\":\"false\"}"}  =>  {"email":"ID@x.co","mailingLists":{"a":true,"b":false}}
put  {"email":"ID@x.co","mailingLists":"[\"a\",\"b\"]"}  =>  {"email":"ID@x.co","mailingLists":{"a":true,"b":true}}
post {"email":"ID@x.co","eventName":"x","mailingLists":["a"]}  =>  {"email":"ID@x.co","eventName":"x","mailingLists":{"a":true}}
put  {"email":"ID@x.co","mailingLists":""}  =>  {"email":"ID@x.co"}
put  {"email":"ID@x.co","mailingLists":{}}  =>  {"email":"ID@x.co"}
put  {"email":"ID@x.co","mailingLists":[""]}  =>  {"email":"ID@x.co"}
put  {"email":"ID@x.co","mailingLists":{"a":"yes"}}  =>  400 invalid_field mailingLists.a
put  {"email":"ID@x.co","mailingLists":{"a":{}}}  =>  400 invalid_field mailingLists.a
put  {"email":"ID@x.co","mailingLists":{"a":"{{List}}"}}  =>  400 column_not_inserted mailingLists.a
put  {"email":"ID@x.co","mailingLists":"a"}  =>  400 invalid_field mailingLists
put  {"email":"ID@x.co","mailingLists":true}  =>  400 invalid_field mailingLists
put  {"email":"ID@x.co","mailingLists":[{"id":"a"}]}  =>  400 invalid_field mailingLists

# eventProperties.
post {"email":"ID@x.co","eventName":"x","eventProperties":{"plan":"pro","n":1.50,"t":true}}  =>  {"email":"ID@x.co","eventName":"x","eventProperties":{"plan":"pro","n":1.50,"t":true}}
post {"email":"ID@x.co","eventName":"x","eventProperties":"{\"plan\":\"pro\",\"n\":1E5}"}  =>  {"email":"ID@x.co","eventName":"x","eventProperties":{"plan":"pro","n":1E5}}
post {"email":"ID@x.co","eventName":"x","eventProperties":"{\"note\":\"one␊two\"}"}  =>  {"email":"ID@x.co","eventName":"x","eventProperties":{"note":"one\ntwo"}}
post {"email":"ID@x.co","eventName":"x","eventProperties":"null"}  =>  {"email":"ID@x.co","eventName":"x"}
post {"email":"ID@x.co","eventName":"x","eventProperties":{"plan":["pro"]}}  =>  400 invalid_field eventProperties.plan
post {"email":"ID@x.co","eventName":"x","eventProperties":{"plan":{"a":1}}}  =>  400 invalid_field eventProperties.plan
post {"email":"ID@x.co","eventName":"x","eventProperties":["pro"]}  =>  400 invalid_field eventProperties
post {"email":"ID@x.co","eventName":"x","eventProperties":"pro"}  =>  400 invalid_field eventProperties

# Other lists and objects.
put  {"email":"ID@x.co","tags":["a","b"]}  =>  400 invalid_field tags
put  {"email":"ID@x.co","company":{"name":"Ltd"}}  =>  400 invalid_field company
put  {"email":"ID@x.co","tags":[]}  =>  400 invalid_field tags
post {"email":"ID@x.co","eventName":"x","company":{}}  =>  400 invalid_field company
put  {"email":"ID@x.co","text":"{\"a\":1}"}  =>  {"email":"ID@x.co","text":"{\"a\":1}"}

# The same key twice, and numbers.
put  {"email":"ID@x.co","a":1,"a":2}  =>  {"email":"ID@x.co","a":2}
put  {"email":"first@x.co","email":"ID@x.co"}  =>  {"email":"ID@x.co"}
put  {"email":"ID@x.co","a":"kept","a":""}  =>  {"email":"ID@x.co"}
put  {"email":"ID@x.co","mailingLists":{"a":true,"a":false}}  =>  {"email":"ID@x.co","mailingLists":{"a":false}}
put  {"email":"ID@x.co","a":123456789012345678901,"b":1.0,"c":1E5,"d":-0,"e":0.10,"f":1e-7,"g":1E+999,"h":-0.0}  =>  {"email":"ID@x.co","a":123456789012345678901,"b":1.0,"c":1E5,"d":-0,"e":0.10,"f":1e-7,"g":1E+999,"h":-0.0}
"##;

/// One line of the table.
struct Case {
    route: Route,
    query: &'static str,
    body: String,
    id: String,
    expected: Result<String, (u16, &'static str, Option<&'static str>)>,
}

fn case(number: usize, line: &'static str) -> Case {
    let (call, expected) = line.rsplit_once("=>").unwrap();
    let (route, body) = call.split_at(call.find(' ').unwrap());
    let (method, query) = route.split_once('?').unwrap_or((route, ""));
    let body = body.strip_prefix("  ").or_else(|| body.strip_prefix(' ')).unwrap();
    let body = body.strip_suffix("  ").unwrap_or(body);
    let pictures = [("␊", "\n"), ("␍", "\r"), ("␉", "\t"), ("␀", "\0"), ("BOM", "\u{feff}")];
    let body = pictures.iter().fold(body.to_owned(), |body, (picture, control)| body.replace(picture, control));
    let id = format!("7000{number:03}");
    let expected = expected.trim();
    let words: Vec<&str> = expected.split(' ').collect();
    let expected = match words.as_slice() {
        [status, code, field] if *status == "400" => Err((400, *code, Some(*field).filter(|field| *field != "-"))),
        _ => Ok(expected.replace("ID", &id)),
    };
    let route = if method == "put" { Route::Contact } else { Route::Event };
    Case { route, query, body: body.replace("ID", &id), id, expected }
}

/// What Loops got of a case, once it has it.
async fn got(loops: &FarEnd, id: &str) -> String {
    eventually(&format!("the row of {id} at Loops"), async || {
        loops.got().iter().map(relay_tests::far_end::Got::text).find(|body| body.contains(id))
    })
    .await
}

#[tokio::test]
async fn every_row_is_read_generously_and_sent_strictly() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut wrong, mut taken, mut cases) = (Vec::new(), 0, 0);
    for (number, line) in lines.enumerate() {
        cases += 1;
        let Case { route, query, body, id, expected } = case(number, line);
        let answer = send(relay.base(), route, query, &[], body).await;
        match expected {
            Ok(expected) if answer.status == 200 || answer.status == 202 => {
                taken += 1;
                let got = got(&loops, &id).await;
                if got != expected {
                    wrong.push(format!("{line}\n  Loops got {got}"));
                }
            }
            Err((status, code, field))
                if answer.refusal() == (status, code.to_owned()) && answer.json()["field"].as_str() == field =>
            {
                answer.assert_refused(status, code, field);
            }
            _ => wrong.push(format!("{line}\n  was answered {} {}", answer.status, answer.text())),
        }
    }
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(loops.got().len(), taken, "nothing that was refused was sent, and nothing twice");
    assert!(cases > 100, "{cases}");
}

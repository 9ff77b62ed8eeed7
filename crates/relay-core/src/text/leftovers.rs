//! What formulas and sheets leave in a text in place of a value: names of columns, objects, and errors.

/// Errors of Excel, Google Sheets and Airtable as these write them, because `#Python!` in another case is a hashtag; the
/// last lines are German, French, Spanish, Portuguese,
/// Italian, Dutch and Russian.
const SHEET_ERRORS: &str = "#N/A #REF! #VALUE! #NAME? #DIV/0! #NUM! #NULL! #ERROR! #SPILL! #CALC! #FIELD! #BLOCKED! \
    #UNKNOWN! #CONNECT! #BUSY! #EXTERNAL! #PYTHON! #TIMEOUT! #GETTING_DATA \
    #BEZUG! #WERT! #ZAHL! #ÜBERLAUF! #FEHLER! #VALEUR! #NOM? #NOMBRE! #NUL! \
    #¡REF! #¡VALOR! #¿NOMBRE? #¡DIV/0! #¡NUM! #¡NULO! #¡ERROR! #N/D #VALOR! #NOME? #NULO! #NÚM! \
    #RIF! #VALORE! #NULLO! #N/B #VERW! #WAARDE! #NAAM? #GETAL! #LEEG! #Н/Д #ССЫЛКА! #ЗНАЧ! #ИМЯ? #ДЕЛ/0! #ЧИСЛО!";
/// Errors that may be hashtags in a longer text: `#N/A` that was typed, of Bloomberg and of a German Excel, those of
/// Airtable and Smartsheet.
const WHOLE_CELL_ERRORS: [&str; 11] = [
    "#n/a",
    "#N/A N/A",
    "#NV",
    "#ERROR",
    "#UNPARSEABLE",
    "#NO MATCH",
    "#INVALID VALUE",
    "#INVALID REF",
    "#INVALID OPERATION",
    "#DIVIDE BY ZERO",
    "#CIRCULAR REFERENCE",
];
/// What JavaScript writes after `[object `, beside the elements of a page (ECMA-262, Object.prototype.toString; the web's
/// own objects). Another word there is a text: `[object Oriented]`.
const CLASSES: &str = "Object Array Map Set WeakMap WeakSet Promise Date Function Undefined Null Symbol Error RegExp \
    Arguments Boolean Number String Math JSON Blob File FormData Response Request Headers Window Generator AsyncFunction";

/// Returns an error of a sheet that stands in a text, and not in an address or a longer word: `/#N/A/b`, `#N/A-team`.
pub(crate) fn find_sheet_error(text: &str) -> Option<&'static str> {
    if !text.contains('#') {
        return None;
    }
    // After `…` it may have gone on, before it was cut.
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '/' | '…'));
    let stands_in = |error: &&str| {
        text.match_indices(*error).any(|(at, _)| {
            let (before, rest) = text.split_at_checked(at).unwrap_or_default();
            !before.ends_with('/') && !goes_on(rest.get(error.len()..).unwrap_or_default())
        })
    };
    SHEET_ERRORS.split(' ').find(stands_in)
}

/// Whether a text has nothing but errors of sheets in it, and signs between them.
pub(crate) fn is_only_sheet_errors(text: &str) -> bool {
    let text = text.trim();
    if !text.contains('#') {
        return is_numbered_error(text);
    }
    let rest = SHEET_ERRORS.split(' ').fold(text.to_owned(), |rest, error| rest.replace(error, ""));
    WHOLE_CELL_ERRORS.contains(&text) || (rest.len() < text.len() && !rest.contains(char::is_alphanumeric))
}

/// Whether a text is an error as LibreOffice shows it: `Err:502`. They begin with 5 (LibreOffice Help, "Error codes").
fn is_numbered_error(text: &str) -> bool {
    text.strip_prefix("Err:5").is_some_and(|code| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a text is only the name of a column between double braces, or several, with signs around them: what Clay
/// sends for a name that was typed (Clay docs, "HTTP API": token and formula mode).
pub(crate) fn is_column_name(text: &str) -> bool {
    let text = text.trim_matches(|c: char| !c.is_alphanumeric() && c != '{' && c != '}');
    text.starts_with("{{") && text.ends_with("}}")
}

/// Whether a formula made a text of an object somewhere in it: `[object Object]`, `[object Promise]` and the like.
pub(crate) fn has_object(text: &str) -> bool {
    let is_element = |class: &str| class.starts_with("HTML") && class.ends_with("Element");
    text.match_indices("[object ").any(|(at, start)| {
        let class = text.get(at + start.len()..).and_then(|rest| rest.split_once(']'));
        class.is_some_and(|(class, _)| {
            CLASSES.split(' ').any(|known| known == class)
                || (is_element(class) && class.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_of_sheet_errors_only_is_recognized() {
        for text in [
            "#N/A",
            " #n/a ",
            "#REF!",
            "#VALUE!",
            "#DIV/0!",
            "#NAME?",
            "#ERROR!",
            "#NULL!",
            "#NUM!",
            "#BEZUG!",
            "#¡VALOR!",
            "#ИМЯ?",
            "#NV",
            "#UNPARSEABLE",
            "Err:502",
            "#N/A #N/A",
            "#REF!, #N/A",
            "(#N/A)",
            "#REF!#REF!",
            "#N/A N/A",
            "#ERROR",
        ] {
            assert!(is_only_sheet_errors(text), "{text}");
        }
        for text in [
            "",
            "#",
            "N/A",
            "#1",
            "#hiring!",
            "Err:5",
            "Err:502 bad gateway",
            "#N/A Ltd",
            "#N/About",
            "-",
            "REF!",
            "#NVIDIA",
            "#Null!",
            "#Wert!",
            "#unknown!",
            "#nv",
            "#Error",
            "Err:404",
            "err:502",
            "ERR:502",
            "Err:5xx",
        ] {
            assert!(!is_only_sheet_errors(text), "{text}");
        }
    }

    #[test]
    fn sheet_error_is_found_inside_text() {
        for (text, error) in [
            ("Total: #REF!", "#REF!"),
            ("Ada #N/A", "#N/A"),
            ("row-#REF!", "#REF!"),
            ("#N/A, #N/A-team", "#N/A"),
            ("#N/A-team, #N/A", "#N/A"),
            ("é#VALUE!", "#VALUE!"),
        ] {
            assert_eq!(find_sheet_error(text), Some(error), "{text}");
        }
        for text in [
            "#hiring!",
            "Let's #connect!",
            "I love #Python!",
            "#Value! added selling",
            "#Nom? oui",
            "#n/a-1",
            "x.example/#n/about",
            "https://x.example/#N/A/b",
            "/path/#NAME?x=1",
            "#N/A-team",
            "#N/About",
            "Hi#NAME?you",
            "#N/A…",
            "#REF!…",
            "we are #1",
            "REF!",
            "#NV is Nevada",
            "#ERROR 404",
            "C#",
        ] {
            assert_eq!(find_sheet_error(text), None, "{text}");
        }
    }

    #[test]
    fn column_names_with_signs_around_are_recognized() {
        for text in [
            "{{Company}}",
            " {{ Company Name }} ",
            "{{}}",
            "#{{Company}}",
            "${{Company}}",
            "({{Company}})",
            "\"{{Company}}\"",
            "{{First}} {{Last}}.",
            "{{{Company}}}",
            "🎉{{Company}}…",
        ] {
            assert!(is_column_name(text), "{text}");
        }
        for text in ["{{Company", "Hi {{name}}", "{{name}}, hi", "{Company}", "/Company", "", "#1 {{a}}"] {
            assert!(!is_column_name(text), "{text}");
        }
    }

    #[test]
    fn object_is_recognized_anywhere_in_text() {
        for text in [
            "[object Object]",
            "[object Object],[object Object]",
            "Acme [object Object], Inc",
            "[object [object Map]",
            "[object AsyncFunction]",
            "[object HTMLDivElement]",
            "[object Storage] [object Null]",
        ] {
            assert!(has_object(text), "{text}");
        }
        for text in [
            "[object object]",
            "[object Object",
            "object Object",
            "[object ]",
            "[object Two Words]",
            "[Object]",
            "[object Storage] engineer",
            "[object Oriented]",
            "[object HTML first Element]",
        ] {
            assert!(!has_object(text), "{text}");
        }
    }
}

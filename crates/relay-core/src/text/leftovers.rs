//! What formulas and sheets leave in a text in place of a value: names of columns, objects, and errors.

/// Errors of Excel, Google Sheets and Airtable in upper case; the last lines are German, French, Spanish, Portuguese,
/// Italian, Dutch and Russian.
const SHEET_ERRORS: &str = "#N/A #REF! #VALUE! #NAME? #DIV/0! #NUM! #NULL! #ERROR! #SPILL! #CALC! #FIELD! #BLOCKED! \
    #UNKNOWN! #CONNECT! #BUSY! #EXTERNAL! #PYTHON! #TIMEOUT! #GETTING_DATA \
    #BEZUG! #WERT! #ZAHL! #ÜBERLAUF! #FEHLER! #VALEUR! #NOM? #NOMBRE! #NUL! \
    #¡REF! #¡VALOR! #¿NOMBRE? #¡DIV/0! #¡NUM! #¡NULO! #¡ERROR! #N/D #VALOR! #NOME? #NULO! #NÚM! \
    #RIF! #VALORE! #NULLO! #N/B #VERW! #WAARDE! #NAAM? #GETAL! #LEEG! #Н/Д #ССЫЛКА! #ЗНАЧ! #ИМЯ? #ДЕЛ/0! #ЧИСЛО!";
/// Errors that may be hashtags in a longer text: `#N/A` of a German Excel, and those of Smartsheet.
const WHOLE_CELL_ERRORS: [&str; 8] = [
    "#NV",
    "#UNPARSEABLE",
    "#NO MATCH",
    "#INVALID VALUE",
    "#INVALID REF",
    "#INVALID OPERATION",
    "#DIVIDE BY ZERO",
    "#CIRCULAR REFERENCE",
];

/// Returns an error of a sheet that stands in a text, in upper case.
pub(crate) fn find_sheet_error(text: &str) -> Option<&'static str> {
    if !text.contains('#') {
        return None;
    }
    let text = text.to_uppercase();
    let stands_in = |error: &&str| {
        // `#n/about` is a part of an address, also after it was cut.
        let goes_on = |rest: &str| {
            error.ends_with(char::is_alphanumeric) && rest.starts_with(|c: char| c.is_alphanumeric() || c == '…')
        };
        text.match_indices(*error).any(|(at, _)| !goes_on(text.get(at + error.len()..).unwrap_or_default()))
    };
    SHEET_ERRORS.split(' ').find(stands_in)
}

/// Whether a text has nothing but errors of sheets in it, and signs between them.
pub(crate) fn is_only_sheet_errors(text: &str) -> bool {
    let text = text.trim();
    if !text.contains('#') {
        return is_numbered_error(text);
    }
    let text = text.to_uppercase();
    let rest = SHEET_ERRORS.split(' ').fold(text.clone(), |rest, error| rest.replace(error, ""));
    WHOLE_CELL_ERRORS.contains(&text.as_str()) || (rest.len() < text.len() && !rest.contains(char::is_alphanumeric))
}

/// Whether a text is an error as LibreOffice shows it: `Err:502`.
fn is_numbered_error(text: &str) -> bool {
    let is_code = |code: &str| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once(':').is_some_and(|(word, code)| word.eq_ignore_ascii_case("err") && is_code(code))
}

/// Whether a text is only the name of a column between double braces, or several, with signs around them: what Clay
/// sends for a name that was typed (Clay docs, "HTTP API": token and formula mode).
pub(crate) fn is_column_name(text: &str) -> bool {
    let text = text.trim_matches(|c: char| !c.is_alphanumeric() && c != '{' && c != '}');
    text.starts_with("{{") && text.ends_with("}}")
}

/// Whether a formula made a text of an object somewhere in it: `[object Object]`, `[object Promise]` and the like.
pub(crate) fn has_object(text: &str) -> bool {
    text.match_indices("[object ").any(|(at, start)| {
        let class = text.get(at + start.len()..).unwrap_or_default();
        let rest = class.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        class.starts_with(|c: char| c.is_ascii_uppercase()) && rest.starts_with(']')
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
            "#Null!",
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
        ] {
            assert!(!is_only_sheet_errors(text), "{text}");
        }
    }

    #[test]
    fn sheet_error_is_found_inside_text() {
        for (text, error) in [
            ("Total: #REF!", "#REF!"),
            ("Ada #N/A", "#N/A"),
            ("#n/a-1", "#N/A"),
            ("Hi#Name?you", "#NAME?"),
            ("é#VALUE!", "#VALUE!"),
        ] {
            assert_eq!(find_sheet_error(text), Some(error), "{text}");
        }
        for text in ["#hiring!", "x.example/#n/about", "#n/a…", "we are #1", "REF!", "#NV is Nevada", "C#"] {
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
        for text in
            ["[object Object]", "[object Object],[object Object]", "Acme [object Object], Inc", "[object [object Map]"]
        {
            assert!(has_object(text), "{text}");
        }
        for text in
            ["[object object]", "[object Object", "object Object", "[object ]", "[object Two Words]", "[Object]"]
        {
            assert!(!has_object(text), "{text}");
        }
    }
}

//! HTML pages in a single file, with styles and pictures inside. It decides how text becomes markup, and does not
//! depend on what a page is about.

pub(crate) mod picture;

/// Text as it stands in a page, also between quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What a page cannot hold at all.
            control if control.is_control() && !control.is_whitespace() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color:#222;background:#fff}\
h2{margin-top:2em;border-bottom:1px solid #ddd}table{border-collapse:collapse;margin:.6em 0}\
th,td{padding:.15em .7em;text-align:left;vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
tr:nth-child(even) td{background:#f7f7f7}.bar{display:inline-block;height:.7em;background:#c33;vertical-align:baseline}\
.edits td{text-align:center;background:none!important;padding:.1em .4em;font-family:monospace}\
.edits .s{background:#ffd9a8!important}.edits .d{background:#ffc4c4!important}.edits .i{background:#c9e1ff!important}\
img{image-rendering:pixelated;display:block;max-width:100%}img.chart{image-rendering:auto}\
.units{display:flex}.units div{font:10px/12px monospace;padding-right:.5em;white-space:pre;text-align:right}\
.side{display:flex;flex-wrap:wrap;gap:0 3em}small{color:#777}section{margin:1.5em 0;overflow-x:auto}";

/// A whole page with `body`, which is markup already.
pub(crate) fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}</body></html>\n"
    )
}

/// A table. Cells are markup already; numbers stand right.
pub(crate) struct HtmlTable {
    markup: String,
    numbers: Vec<bool>,
}

impl HtmlTable {
    /// Headings, each with whether numbers stand below it.
    pub(crate) fn new(headings: &[(&str, bool)]) -> Self {
        let cells: String = headings
            .iter()
            .map(|(text, number)| format!("<th{}>{}</th>", class(*number), escape(text)))
            .collect();
        Self {
            markup: format!("<table><tr>{cells}</tr>\n"),
            numbers: headings.iter().map(|(_, number)| *number).collect(),
        }
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        let cells = cells.iter().zip(&self.numbers);
        let cells: String = cells
            .map(|(cell, number)| format!("<td{}>{cell}</td>", class(*number)))
            .collect();
        self.markup.push_str(&format!("<tr>{cells}</tr>\n"));
    }

    pub(crate) fn finish(self) -> String {
        self.markup + "</table>\n"
    }
}

fn class(number: bool) -> &'static str {
    if number { " class=\"n\"" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_said_becomes_markup() {
        let said = "<script>alert('1 & \"2\"')</script>\u{7}";
        let escaped = escape(said);
        assert_eq!(
            escaped,
            "&lt;script&gt;alert(&#39;1 &amp; &quot;2&quot;&#39;)&lt;/script&gt;\u{fffd}"
        );
        let page = page(said, "<p>body</p>");
        assert!(!page.contains("<script") && page.contains("<p>body</p>"));
        assert!(page.contains("default-src 'none'"), "it fetches nothing");
    }

    #[test]
    fn a_table_has_its_numbers_on_the_right() {
        let mut table = HtmlTable::new(&[("name", false), ("rate", true)]);
        table.row(&["a".to_owned(), "1".to_owned()]);
        let markup = table.finish();
        assert!(
            markup.contains("<td>a</td><td class=\"n\">1</td>"),
            "{markup}"
        );
    }
}

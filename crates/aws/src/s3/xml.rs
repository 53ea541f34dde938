//! S3's XML: small documents in, answers out.

use quick_xml::{
    Reader,
    escape::{escape, resolve_predefined_entity},
    events::Event,
};

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// Deepest nesting of a document that a client sends.
const DEPTH_MAX: usize = 8;

/// An element that came in: names without their prefixes, attributes dropped.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) text: String,
    children: Vec<Element>,
}

impl Element {
    /// None: not one well-formed document, or one that is nested too deeply.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_reader(bytes);
        let mut buffer = Vec::new();
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event_into(&mut buffer).ok()? {
                Event::Start(start) => {
                    let name = String::from_utf8(start.local_name().as_ref().to_vec()).ok()?;
                    open.push(Self { name, ..Self::default() });
                    if open.len() > DEPTH_MAX {
                        return None;
                    }
                }
                Event::Empty(start) => {
                    let name = String::from_utf8(start.local_name().as_ref().to_vec()).ok()?;
                    open.last_mut()?.children.push(Self { name, ..Self::default() });
                }
                Event::End(_) => {
                    let closed = open.pop()?;
                    open.last_mut()?.children.push(closed);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::CData(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::GeneralRef(reference) => {
                    let text = &mut open.last_mut()?.text;
                    match reference.resolve_char_ref().ok()? {
                        Some(c) => text.push(c),
                        None => {
                            let name = reference.decode().ok()?;
                            text.push_str(resolve_predefined_entity(&name)?);
                        }
                    }
                }
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
                // Entities of one's own have no place here.
                Event::DocType(_) => return None,
                Event::Eof => break,
            }
            buffer.clear();
        }
        let mut document = open.pop().filter(|_| open.is_empty())?;
        let root = document.children.pop()?;
        document.children.is_empty().then_some(root)
    }

    pub(super) fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Self> + 'e {
        self.children.iter().filter(move |child| child.name == name)
    }

    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of a child, without the space around it.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }
}

/// An answer that is being written.
#[derive(Debug)]
pub(super) struct Xml {
    text: String,
    open: Vec<&'static str>,
}

impl Xml {
    /// With S3's namespace.
    pub(super) fn new(root: &'static str) -> Self {
        let text =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{NAMESPACE}\">");
        Self { text, open: vec![root] }
    }

    /// Errors have none.
    pub(super) fn without_namespace(root: &'static str) -> Self {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}>");
        Self { text, open: vec![root] }
    }

    pub(super) fn open(&mut self, name: &'static str) {
        self.text.push_str(&format!("<{name}>"));
        self.open.push(name);
    }

    pub(super) fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.text.push_str(&format!("</{name}>"));
        }
    }

    pub(super) fn leaf(&mut self, name: &str, text: impl ToString) {
        self.text.push_str(&format!("<{name}>"));
        self.text(text);
        self.text.push_str(&format!("</{name}>"));
    }

    pub(super) fn text(&mut self, text: impl ToString) {
        let text = text.to_string();
        // XML 1.0 has no way to write other control characters; clients that expect some ask for
        // encoding-type=url.
        let text = text.replace(|c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\r'), "\u{fffd}");
        self.text.push_str(&escape(text.as_str()));
    }

    pub(super) fn leaf_of(&mut self, name: &str, text: Option<impl ToString>) {
        if let Some(text) = text {
            self.leaf(name, text);
        }
    }

    pub(super) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_whatever_their_prefixes() {
        let text = b"<?xml version=\"1.0\"?><!-- x --><s:Delete xmlns:s=\"u\"><s:Object>\
                     <s:Key>a&amp;b&#x20;<![CDATA[<c>]]></s:Key></s:Object><Quiet/></s:Delete>";
        let root = Element::parse(text).unwrap();
        assert_eq!(root.name, "Delete");
        let object = root.all("Object").next().unwrap();
        assert_eq!(object.text_of("Key"), Some("a&b <c>"));
        assert_eq!(root.text_of("Quiet"), Some(""));
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(20), "</a>".repeat(20));
        for bad in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>",
            "<a>&unknown;</a>",
            &deep,
        ] {
            assert!(Element::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn answers_are_escaped() {
        let mut xml = Xml::without_namespace("Error");
        xml.open("A");
        xml.leaf("Key", "a<&>\u{1}");
        assert!(xml.finish().ends_with("<Error><A><Key>a&lt;&amp;&gt;\u{fffd}</Key></A></Error>"));
    }
}

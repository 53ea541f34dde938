//! A base image of one file, made by hand, and a registry without TLS that has it.

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// An OCI image; blobs by their digests.
pub(crate) struct Image {
    blobs: BTreeMap<String, Vec<u8>>,
    manifest: String,
}

impl Image {
    pub(crate) fn new() -> Self {
        let mut image = Self { blobs: BTreeMap::new(), manifest: String::new() };
        let mut layer = tar::Builder::new(Vec::new());
        let content: &[u8] = b"from the base\n";
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        layer.append_data(&mut header, "from-base", content).unwrap();
        let layer = layer.into_inner().unwrap();
        let (layer_digest, layer_size) = image.add(layer);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["OF_BASE=yes"]}},"history":[{{"created_by":"a test"}}],"rootfs":{{"type":"layers","diff_ids":["{layer_digest}"]}}}}"#
        );
        let (config_digest, config_size) = image.add(config.into_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{layer_size}}}]}}"#
        );
        image.manifest = image.add(manifest.into_bytes()).0;
        image
    }

    fn add(&mut self, blob: Vec<u8>) -> (String, usize) {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&blob)));
        let size = blob.len();
        self.blobs.insert(digest.clone(), blob);
        (digest, size)
    }

    /// Files of an OCI layout, whose names begin so.
    pub(crate) fn layout(&self, beginning: &str) -> Vec<(String, Vec<u8>)> {
        let size = self.blobs[&self.manifest].len();
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{size}}}]}}"#,
            self.manifest
        );
        let mut files = vec![
            (format!("{beginning}oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            (format!("{beginning}index.json"), index.into_bytes()),
        ];
        for (digest, blob) in &self.blobs {
            files.push((format!("{beginning}blobs/{}", digest.replace(':', "/")), blob.clone()));
        }
        files
    }

    /// The layout as one file.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in self.layout("") {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        archive.into_inner().unwrap()
    }
}

/// Content type and body, by path.
type Answers = BTreeMap<String, (&'static str, Vec<u8>)>;

/// Answers until it is dropped.
pub(crate) struct Registry {
    address: String,
    answers: Arc<Mutex<Answers>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers = Arc::new(Mutex::new(Answers::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (known, stopped) = (answers.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // A client that leaves is no concern of this one.
                let _ = answer(stream.unwrap(), &known.lock().unwrap());
            }
        });
        Self { address, answers, stop, thread: Some(thread) }
    }

    /// Has the image as `some/base:1`; returns host and port.
    pub(crate) fn serve(&self, image: &Image) -> String {
        let mut answers = self.answers.lock().unwrap();
        answers.insert("/v2/".to_owned(), ("application/json", b"{}".to_vec()));
        let manifest = &image.blobs[&image.manifest];
        for reference in ["1", &image.manifest] {
            let path = format!("/v2/some/base/manifests/{reference}");
            let kind = "application/vnd.oci.image.manifest.v1+json";
            answers.insert(path, (kind, manifest.clone()));
        }
        for (digest, blob) in &image.blobs {
            let path = format!("/v2/some/base/blobs/{digest}");
            answers.insert(path, ("application/octet-stream", blob.clone()));
        }
        self.address.clone()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn answer(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match answers.get(path) {
        Some((kind, body)) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            )?;
            if method == "GET" { stream.write_all(body) } else { Ok(()) }
        }
        None => write!(
            stream,
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ),
    }
}

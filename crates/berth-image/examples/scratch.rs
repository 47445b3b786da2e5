//! Scratch.
use std::{io::BufReader, time::Instant};
use berth_image::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let root = std::path::PathBuf::from(&args[1]);
    std::fs::create_dir_all(&root).unwrap();
    let store = berth_store::Store::open(&root, &root).unwrap();
    let t = Instant::now();
    let images = Images::open(ImageStoreConfig::new(&root), store).unwrap();
    eprintln!("open {:?}", t.elapsed());
    let t = Instant::now();
    match args[2].as_str() {
        "load" => {
            let f: Box<dyn std::io::Read + Send> = if args[3] == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(&args[3]).unwrap()) };
            let r = images.load(f, None, &mut |p| if let Progress::Stream(s) = p { print!("{s}") });
            match r { Ok(_) => {}, Err(e) => println!("error: {e}") }
        }
        "import" => println!("{:?}", images.import(std::fs::File::open(&args[3]).unwrap(), ImportOptions { reference: args.get(4).map(|s| s.parse().unwrap()), ..Default::default() })),
        "save" => { images.save(&args[4..], None, std::fs::File::create(&args[3]).unwrap()).unwrap(); }
        "list" => {
            for i in images.list(ListOptions::default()).unwrap() { if args.len() == 3 { println!("{} {:?} {}", i.id, i.names.iter().map(|n| n.familiar()).collect::<Vec<_>>(), i.size); } }
            let t = Instant::now(); images.list(ListOptions::default()).unwrap(); eprintln!("second list {:?}", t.elapsed());
        }
        "layers" => for p in images.rootfs(&images.resolve(&args[3]).unwrap()).unwrap().chain() { println!("{}", p.display()); },
        "rm" => println!("{:?}", images.remove(&args[3], RemoveOptions { force: true }, &|| vec![])),
        "many" => {
            let n: usize = args[3].parse().unwrap();
            let mut w = berth_archive::TarWriter::new(Vec::new());
            for i in 0..3 { let m = berth_archive::Member::new(format!("f{i}").as_bytes(), berth_archive::Kind::File); w.append_bytes(&m, b"x").unwrap(); }
            let tar = w.finish().unwrap();
            for i in 0..n { images.import(&tar[..], ImportOptions { reference: Some(format!("img{i}:1").parse().unwrap()), message: i.to_string(), ..Default::default() }).unwrap(); }
        }
        _ => panic!(),
    }
    eprintln!("{} {:?}", args[2], t.elapsed());
    let _ = BufReader::new(std::io::empty());
    std::process::exit(0);
}

use std::time::Instant;
use std::collections::BTreeMap;
use tasks::{package::*, Seed, Environment, Style};
fn main() {
    let files: BTreeMap<String, Vec<u8>> = template("starlark").unwrap().iter().map(|(n,t)| (n.to_string(), t.replace("NAME","x").into_bytes())).collect();
    let b = Bundle::from_folder(files).unwrap();
    for _ in 0..3 { let t = Instant::now(); let p = Packaged::open(&b).unwrap(); println!("open {:?}", t.elapsed()); drop(p);}
    let p = Packaged::open(&b).unwrap();
    let t = Instant::now();
    let (item, fuel) = p.draw_metered(&Seed::derive(&[b"x"]), 1);
    println!("first draw {:?} fuel {fuel}", t.elapsed());
    let c = p.demonstrate(&item, Style::Direct);
    for _ in 0..3 { let t = Instant::now(); let mut f = 0; for _ in 0..1000 { f = p.score_metered(&item, &c).1; } println!("score {:?} fuel {f}", t.elapsed()/1000); }
    let t = Instant::now(); for i in 0..1000u32 { let _ = p.draw_metered(&Seed::derive(&[&i.to_le_bytes()]), 1); } println!("draw {:?}", t.elapsed()/1000);
}

//! Written-out questions, answers and scores: whatever changes one of them
//! changes what every node asks, and needs a new version in the manifest.

use tasks::{
    Ppm, Registry, Seed, Status, Style,
    dialogue::{PeerAnswer, critique_prompt, demonstrate_critique, resolve_prompt, score_critique},
    held_out,
};

/// One environment at the seed `golden`.
struct Golden {
    name: &'static str,
    id: &'static str,
    /// A level each: question, completion with steps, distractor, held-out question.
    vectors: [(&'static str, &'static str, &'static str, &'static str); 3],
}

const GOLDEN: [Golden; 12] = [
    Golden {
        name: "add",
        id: "e672…1c2",
        vectors: [
            (
                "add 55+3",
                "<think>5+3+0=08 5+0+0=05</think><answer>58</answer>",
                "50",
                "add 64+8",
            ),
            (
                "add 30+87",
                "<think>0+7+0=07 3+8+0=11</think><answer>117</answer>",
                "137",
                "add 28+12",
            ),
            (
                "add 797+465",
                "<think>7+5+0=12 9+6+1=16 7+4+1=12</think><answer>1262</answer>",
                "1362",
                "add 110+651",
            ),
        ],
    },
    Golden {
        name: "sub",
        id: "9793…5c1",
        vectors: [
            (
                "sub 93-8",
                "<think>3-8-0=15 9-0-1=08</think><answer>85</answer>",
                "95",
                "sub 95-8",
            ),
            (
                "sub 74-38",
                "<think>4-8-0=16 7-3-1=03</think><answer>36</answer>",
                "46",
                "sub 32-26",
            ),
            (
                "sub 882-200",
                "<think>2-0-0=02 8-0-0=08 8-2-0=06</think><answer>682</answer>",
                "692",
                "sub 872-789",
            ),
        ],
    },
    Golden {
        name: "mul",
        id: "fbfa…8b6",
        vectors: [
            (
                "mul 48*4",
                "<think>8*4+0=32 4*4+3=19</think><answer>192</answer>",
                "198",
                "mul 57*3",
            ),
            (
                "mul 96*5",
                "<think>6*5+0=30 9*5+3=48</think><answer>480</answer>",
                "488",
                "mul 36*7",
            ),
            (
                "mul 770*6",
                "<think>0*6+0=00 7*6+0=42 7*6+4=46</think><answer>4620</answer>",
                "6420",
                "mul 145*2",
            ),
        ],
    },
    Golden {
        name: "mod",
        id: "4af0…151",
        vectors: [
            (
                "mod 25 4",
                "<think>02=2 25=1</think><answer>1</answer>",
                "0",
                "mod 15 2",
            ),
            (
                "mod 621 3",
                "<think>06=0 02=2 21=0</think><answer>0</answer>",
                "2",
                "mod 645 3",
            ),
            (
                "mod 8624 8",
                "<think>08=0 06=6 62=6 64=0</think><answer>0</answer>",
                "2",
                "mod 1312 7",
            ),
        ],
    },
    Golden {
        name: "chain",
        id: "e4d5…800",
        vectors: [
            (
                "chain 4+4+9",
                "<think>4+4=8 8+9=17</think><answer>17</answer>",
                "18",
                "chain 7+8+9",
            ),
            (
                "chain 1+4-1+1",
                "<think>1+4=5 5-1=4 4+1=5</think><answer>5</answer>",
                "6",
                "chain 8+5+3+4",
            ),
            (
                "chain 83-2-2+7+2",
                "<think>83-2=81 81-2=79 79+7=86 86+2=88</think><answer>88</answer>",
                "86",
                "chain 32+8-7+2-4",
            ),
        ],
    },
    Golden {
        name: "next",
        id: "fdfd…c2a",
        vectors: [
            (
                "next 34 35 36 37",
                "<think>35-34=1 37+1=38</think><answer>38</answer>",
                "37",
                "next 18 21 24 27",
            ),
            (
                "next 44 46 48 50",
                "<think>46-44=2 50+2=52</think><answer>52</answer>",
                "51",
                "next 40 46 52 58",
            ),
            (
                "next 50 57 65 74",
                "<think>65-57=8 74-65=9 9+1=10 74+10=84</think><answer>84</answer>",
                "83",
                "next 14 15 17 20",
            ),
        ],
    },
    Golden {
        name: "max",
        id: "35a4…c05",
        vectors: [
            (
                "max 72 40 50",
                "<think>72>40 72>50</think><answer>72</answer>",
                "62",
                "max 82 61 59",
            ),
            (
                "max 60 38 63 37 59",
                "<think>60>38 60<63 63>37 63>59</think><answer>63</answer>",
                "53",
                "max 29 99 57 91 12",
            ),
            (
                "max 591 462 217 984 359",
                "<think>591>462 591>217 591<984 984>359</think><answer>984</answer>",
                "974",
                "max 357 250 207 868 443",
            ),
        ],
    },
    Golden {
        name: "sort",
        id: "25e1…c19",
        vectors: [
            (
                "sort 1094",
                "<think>1 01 019 0149</think><answer>0149</answer>",
                "0249",
                "sort 6387",
            ),
            (
                "sort 85540",
                "<think>8 58 558 4558 04558</think><answer>04558</answer>",
                "24558",
                "sort 72842",
            ),
            (
                "sort 0213500",
                "<think>0 02 012 0123 01235 001235 0001235</think><answer>0001235</answer>",
                "0021235",
                "sort 6386442",
            ),
        ],
    },
    Golden {
        name: "reverse",
        id: "c57d…4c1",
        vectors: [
            (
                "reverse ECGH",
                "<think>1E 2C 3G 4H</think><answer>HGCE</answer>",
                "HCGE",
                "reverse DGDE",
            ),
            (
                "reverse BHFAGH",
                "<think>1B 2H 3F 4A 5G 6H</think><answer>HGAFHB</answer>",
                "HGAHFB",
                "reverse DACEFB",
            ),
            (
                "reverse BEFDHADH",
                "<think>1B 2E 3F 4D 5H 6A 7D 8H</think><answer>HDAHDFEB</answer>",
                "HDAHDEFB",
                "reverse HGHEBDBF",
            ),
        ],
    },
    Golden {
        name: "count",
        id: "ccce…ba7",
        vectors: [
            (
                "count A ABCBC",
                "<think>A1B1C1B1C1</think><answer>1</answer>",
                "0",
                "count B DCADD",
            ),
            (
                "count D DDBAAAAA",
                "<think>D1D2B2A2A2A2A2A2</think><answer>2</answer>",
                "1",
                "count B ABBADACC",
            ),
            (
                "count A BDABDBADAADB",
                "<think>B0D0A1B1D1B1A2D2A3A4D4B4</think><answer>4</answer>",
                "3",
                "count A DBBDDABBBADB",
            ),
        ],
    },
    Golden {
        name: "dedup",
        id: "51f9…5fd",
        vectors: [
            (
                "dedup BACCB",
                "<think>B+A+C+C-B-</think><answer>BAC</answer>",
                "BFC",
                "dedup BCAAA",
            ),
            (
                "dedup BEEBFBD",
                "<think>B+E+E-B-F+B-D+</think><answer>BEFD</answer>",
                "BFFD",
                "dedup CCDFCFD",
            ),
            (
                "dedup GHHABDFBCB",
                "<think>G+H+H-A+B+D+F+B-C+B-</think><answer>GHABDFC</answer>",
                "GFABDFC",
                "dedup BCDFHEHDDB",
            ),
        ],
    },
    Golden {
        name: "bits",
        id: "a336…f87",
        vectors: [
            (
                "bits 0001 xor 1110",
                "<think>01=1 01=1 01=1 10=1</think><answer>1111</answer>",
                "0111",
                "bits 1010 and 1011",
            ),
            (
                "bits 100111 or 111110",
                "<think>11=1 01=1 01=1 11=1 11=1 10=1</think><answer>111111</answer>",
                "110111",
                "bits 110011 and 110001",
            ),
            (
                "bits 1001 xor 1100 xor 1110",
                "<think>11=01=1 01=11=0 00=01=1 10=10=1</think><answer>1011</answer>",
                "1111",
                "bits 1010 xor 1101 or 0001",
            ),
        ],
    },
];

#[test]
fn seeds_and_draws_are_what_they_were() {
    let seed = Seed::derive(&[b"golden"]);
    assert_eq!(
        seed.to_hex(),
        "5d0a55d73fad7ff444da451c0d182471539dc03455213c3a8407f61d5e31280f"
    );
    let mut draw = seed.draw();
    assert_eq!(draw.next_u64(), 17_363_960_423_085_853_165);
    assert_eq!(draw.below(1_000), 427);
    assert_eq!(draw.between(5, 9), 7);
}

#[test]
fn items_are_what_they_were() {
    let registry = Registry::builtin();
    let seed = Seed::derive(&[b"golden"]);
    assert_eq!(registry.len(), GOLDEN.len());
    for (environment, golden) in registry.iter().zip(&GOLDEN) {
        assert_eq!(environment.manifest().name, golden.name);
        assert_eq!(environment.manifest().id().to_string(), golden.id);
        for (level, (question, steps, wrong, held)) in (1..).zip(golden.vectors) {
            let item = environment.generate(&seed, level);
            assert_eq!(item.question, question);
            assert_eq!(environment.demonstrate(&item, Style::Think), steps);
            assert_eq!(environment.distractor(&item, &seed), wrong);
            assert_eq!(environment.generate_held_out(&seed, level).question, held);
            assert!(held_out(held) && !held_out(question));
        }
    }
}

#[test]
fn scores_are_what_they_were() {
    let registry = Registry::builtin();
    let seed = Seed::derive(&[b"golden"]);
    for (environment, golden) in registry.iter().zip(&GOLDEN) {
        let (_, steps, wrong, _) = golden.vectors[0];
        let item = environment.generate(&seed, 1);
        let right = &item.reference;
        let long = format!(
            "<think>{}</think><answer>{right}</answer>",
            "1".repeat(134 - right.len())
        );
        for (text, status, reward, answer, why) in [
            (
                steps.to_owned(),
                Status::Ok,
                1_000_000,
                Some(right.as_str()),
                "right",
            ),
            (
                long,
                Status::Ok,
                965_000,
                Some(right.as_str()),
                "right, 70 bytes longer than is free",
            ),
            (
                format!("<answer>{wrong}</answer>"),
                Status::Ok,
                0,
                Some(wrong),
                "wrong",
            ),
            (right.clone(), Status::NoAnswer, 0, None, "no <answer> tag"),
            (
                format!("<answer>{right}</answer> ok"),
                Status::Invalid,
                0,
                Some(right.as_str()),
                "text after the answer",
            ),
            (
                "<answer>1</answer><answer>2</answer>".to_owned(),
                Status::Invalid,
                0,
                None,
                "tags out of place: <answer> </answer> <answer> </answer>",
            ),
        ] {
            let score = environment.score(&item, &text);
            assert_eq!(score.status, status, "{text}");
            assert_eq!(score.reward, Ppm(reward), "{text}");
            assert_eq!(score.answer.as_deref(), answer, "{text}");
            assert_eq!(score.why, why, "{text}");
        }
    }
}

#[test]
fn the_words_of_the_stages_are_what_they_were() {
    let registry = Registry::builtin();
    let add = registry.by_name("add").unwrap();
    let item = add.generate(&Seed::derive(&[b"golden"]), 2);
    assert_eq!(
        critique_prompt(&item, "137")[0].content,
        "add 30+87\ncheck 137"
    );
    assert_eq!(
        demonstrate_critique(add, &item, "137", true),
        "<think>7=7 1!3</think><verdict>wrong</verdict>"
    );
    assert_eq!(
        demonstrate_critique(add, &item, "117", true),
        "<think>7=7 1=1 1=1</think><verdict>right</verdict>"
    );
    let verdict = score_critique(false, "<think>7=7 1!3</think><verdict>wrong</verdict>");
    assert_eq!((verdict.status, verdict.reward), (Status::Ok, Ppm::ONE));
    let peers = [("137", 1, 2), ("117", 3, 0)].map(|(answer, right, wrong)| PeerAnswer {
        answer: answer.to_owned(),
        right,
        wrong,
    });
    assert_eq!(
        resolve_prompt(&item, &peers)[0].content,
        "add 30+87\npeers 117=3!0 137=1!2"
    );
}

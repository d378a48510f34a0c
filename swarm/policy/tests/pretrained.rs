//! Published checkpoints: folders of safetensors and GGUF files, whole and not.

#![allow(clippy::unwrap_used)] // a failure is a failed test

mod common;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use common::{VOCAB, config_with, decoder, families, request, tokenizer_json};
use policy::{ChatMessage, Config, Decoder, Policy, Pretrained, Request, Tokenizer};
use safetensors::tensor::{SafeTensors, TensorView};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder as the hub has them, one file of weights.
fn folder(decoder: &Decoder, dtype: DType) -> TempDir {
    let dir = TempDir::new().unwrap();
    let config = serde_json::to_vec(decoder.config()).unwrap();
    write(&dir, "config.json", &config);
    write(&dir, "tokenizer.json", tokenizer_json().as_bytes());
    write(
        &dir,
        "model.safetensors",
        &decoder.to_safetensors(dtype).unwrap(),
    );
    dir
}

fn write(dir: &TempDir, name: &str, bytes: &[u8]) {
    fs::write(dir.path().join(name), bytes).unwrap();
}

fn load(path: &Path) -> Policy {
    let opened = Pretrained::open(path).unwrap();
    opened.load(&Device::Cpu).unwrap()
}

fn refusal(path: &Path) -> String {
    match Pretrained::open(path) {
        Err(error) => error.to_string(),
        Ok(opened) => opened.load(&Device::Cpu).unwrap_err().to_string(),
    }
}

fn values(decoder: &Decoder, name: &str) -> Vec<f32> {
    let tensor = decoder.vars()[name].as_detached_tensor();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Splits the one file of a folder into `parts`, with an index.
fn shard(dir: &TempDir, parts: usize) {
    let whole = fs::read(dir.path().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&whole).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    let mut map = serde_json::Map::new();
    for (index, names) in names.chunks(names.len().div_ceil(parts)).enumerate() {
        let name = format!("model-{:05}-of-{parts:05}.safetensors", index + 1);
        let views: Vec<(&str, TensorView<'_>)> = names
            .iter()
            .map(|name| (*name, file.tensor(name).unwrap()))
            .collect();
        map.extend(
            names
                .iter()
                .map(|tensor| ((*tensor).to_owned(), name.clone().into())),
        );
        write(dir, &name, &safetensors::serialize(views, None).unwrap());
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    write(
        dir,
        "model.safetensors.index.json",
        index.to_string().as_bytes(),
    );
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
}

#[test]
fn one_file_and_several_are_the_same_model() {
    for config in families(VOCAB) {
        let decoder = decoder(config, 3);
        let one = folder(&decoder, DType::F32);
        let several = folder(&decoder, DType::F32);
        shard(&several, 3);
        let (one, several) = (load(one.path()), load(several.path()));
        assert_eq!(
            one.weights(DType::F32).unwrap(),
            decoder.to_safetensors(DType::F32).unwrap()
        );
        assert_eq!(one.weights_hash().unwrap(), several.weights_hash().unwrap());
        let half = load(folder(&decoder, DType::BF16).path());
        let near = half.weights(DType::BF16).unwrap();
        assert_eq!(near, decoder.to_safetensors(DType::BF16).unwrap());
    }
}

#[test]
fn a_checkpoint_keeps_the_template_it_was_published_with() {
    let dir = folder(&decoder(config_with(VOCAB, true), 3), DType::F32);
    let plain = load(dir.path());
    let template = "{% for m in messages %}<|im_start|>{{ m.role | upper }}:{{ m.content | trim }}\
                    <|im_end|>{% endfor %}<|im_start|>";
    let settings = serde_json::json!({
        "chat_template": template, "eos_token": { "content": "<|im_end|>" }, "bos_token": null,
    });
    write(
        &dir,
        "tokenizer_config.json",
        settings.to_string().as_bytes(),
    );
    let talk = [ChatMessage::new("user", " hi <|im_end|>")];
    let published = load(dir.path());
    let prompt = published.tokenizer().prompt(&talk).unwrap();
    assert_ne!(prompt, plain.tokenizer().prompt(&talk).unwrap());
    let text = published.tokenizer().decode(&prompt).unwrap();
    assert_eq!(text, "<|im_start|>USER:hi <|im_end|><|im_end|><|im_start|>");
    // What the message says is text, and the format's mark is a mark.
    assert_eq!(prompt.iter().filter(|&&token| token == 257).count(), 1);

    let home = TempDir::new().unwrap();
    published
        .save(home.path(), &serde_json::Value::Null)
        .unwrap();
    let resumed = Policy::resume(home.path(), &Device::Cpu).unwrap().policy;
    assert_eq!(resumed.tokenizer().prompt(&talk).unwrap(), prompt);

    // A file of its own is newer than the one in the settings.
    write(
        &dir,
        "chat_template.jinja",
        b"{{ messages[0].content }}<|im_end|>",
    );
    let opened = Pretrained::open(dir.path());
    assert!(opened.is_err(), "this template leaves the answer out");
    let named = serde_json::json!({ "chat_template": [
        { "name": "tool_use", "template": "no" }, { "name": "default", "template": template },
    ]});
    fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    write(&dir, "tokenizer_config.json", named.to_string().as_bytes());
    let again = load(dir.path());
    assert_eq!(again.tokenizer().prompt(&talk).unwrap(), prompt);
}

#[test]
fn an_exported_model_is_read_back() {
    let (_dir, path) = write_gguf(&decoder(published().remove(1), 4), GgmlDType::F32, |_| {});
    let read = load(&path);
    let home = TempDir::new().unwrap();
    let folder = home.path().join("models/mine");
    read.export(&folder, DType::F32, Some("mit")).unwrap();
    let again = Pretrained::open(&folder).unwrap();
    assert_eq!((again.licence(), again.has_template()), (Some("mit"), true));
    let again = again.load(&Device::Cpu).unwrap();
    assert_eq!(again.weights_hash().unwrap(), read.weights_hash().unwrap());
    let talk = [ChatMessage::new("user", "hello")];
    let prompt = |policy: &Policy| policy.tokenizer().prompt(&talk).unwrap();
    assert_eq!(prompt(&again), prompt(&read));
    // Nothing is overwritten, and nothing half written is left.
    assert!(read.export(&folder, DType::F32, None).is_err());
}

#[test]
fn a_template_and_a_tokenizer_that_do_not_belong_together_are_refused() {
    let dir = folder(&decoder(config_with(VOCAB, true), 3), DType::F32);
    write(
        &dir,
        "chat_template.jinja",
        b"{% for m in messages %}[{{ m.role }}]{{ m.content }}<|eot_id|>{% endfor %}",
    );
    let error = refusal(dir.path());
    assert!(
        error.contains("<|eot_id|>") && error.contains("belong together"),
        "{error}"
    );
    write(&dir, "chat_template.jinja", b"{% for m in %}");
    let error = refusal(dir.path());
    assert!(error.contains("chat template"), "{error}");
    assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
}

#[test]
fn what_is_wrong_with_a_folder_is_said_by_file_and_tensor() {
    let decoder = decoder(config_with(VOCAB, true), 3);
    let fresh = || folder(&decoder, DType::F32);
    let weights = decoder.to_safetensors(DType::F32).unwrap();
    let json = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut config = serde_json::to_value(decoder.config()).unwrap();
        change(&mut config);
        config.to_string()
    };

    let dir = fresh();
    for (name, said) in [
        ("model.safetensors", "convert them"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("config.json", "has no config.json"),
    ] {
        fs::remove_file(dir.path().join(name)).unwrap();
        let error = refusal(dir.path());
        assert!(error.contains(said), "{error}");
    }

    let dir = fresh();
    write(&dir, "model.safetensors", &weights[..weights.len() - 7]);
    let error = refusal(dir.path());
    assert!(
        error.contains("model.safetensors: not a safetensors file"),
        "{error}"
    );
    assert!(error.contains("truncated"), "{error}");
    // A header that lies about its size.
    let mut lying = weights.clone();
    lying[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    write(&dir, "model.safetensors", &lying);
    assert!(refusal(dir.path()).contains("header says it has"));

    let dir = fresh();
    write(
        &dir,
        "config.json",
        json(&|config| config["num_hidden_layers"] = 4.into()).as_bytes(),
    );
    let error = refusal(dir.path());
    assert!(
        error.contains("tensor model.layers.3.") && error.contains("is missing"),
        "{error}"
    );
    write(
        &dir,
        "config.json",
        json(&|config| config["intermediate_size"] = 79.into()).as_bytes(),
    );
    let error = refusal(dir.path());
    assert!(error.contains("[48, 80], expected [48, 79]"), "{error}");
    assert!(
        error.contains("model.safetensors: tensor model.layers.0.mlp"),
        "{error}"
    );
    for (key, value, said) in [
        ("num_hidden_layers", 1u64 << 40, "num_hidden_layers is"),
        ("vocab_size", 1 << 24, "is missing"),
        (
            "vocab_size",
            100,
            "it has 260 tokens and the model only 100",
        ),
    ] {
        write(
            &dir,
            "config.json",
            json(&|config| config[key] = value.into()).as_bytes(),
        );
        let error = refusal(dir.path());
        assert!(
            error.contains(said) || error.contains("expected [16777216"),
            "{key}: {error}"
        );
    }
    let huge = json(&|config| {
        for key in ["vocab_size", "hidden_size", "intermediate_size"] {
            config[key] = (1u64 << 24).into();
        }
    });
    write(&dir, "config.json", huge.as_bytes());
    assert!(refusal(dir.path()).contains("more than any model"));
    for (key, value) in [
        ("use_sliding_window", true.into()),
        ("mlp_bias", true.into()),
        (
            "quantization_config",
            serde_json::json!({ "quant_method": "gptq" }),
        ),
        (
            "rope_scaling",
            serde_json::json!({ "rope_type": "yarn", "factor": 4.0 }),
        ),
        ("rope_scaling", serde_json::json!({ "rope_type": "llama3" })),
        ("partial_rotary_factor", 0.5.into()),
    ] {
        write(
            &dir,
            "config.json",
            json(&|config| config[key] = value.clone()).as_bytes(),
        );
        let error = refusal(dir.path());
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn an_index_can_neither_lie_nor_lead_elsewhere() {
    let decoder = decoder(config_with(VOCAB, true), 3);
    let dir = folder(&decoder, DType::F32);
    shard(&dir, 2);
    let path = dir.path().join("model.safetensors.index.json");
    let index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let with = |tensor: &str, file: &str| {
        let mut index = index.clone();
        index["weight_map"][tensor] = file.into();
        fs::write(&path, index.to_string()).unwrap();
        refusal(dir.path())
    };
    assert!(with("model.norm.weight", "../secret.safetensors").contains("not the name of a file"));
    assert!(with("model.norm.weight", "model-9.safetensors").contains("model-9.safetensors"));
    let error = with("model.norm.weight", "model-00001-of-00002.safetensors");
    assert!(
        error.contains("model.norm.weight is not in model-00001"),
        "{error}"
    );
    let error = with("more.weight", "model-00001-of-00002.safetensors");
    assert!(error.contains("more.weight is not in"), "{error}");

    fs::write(&path, index.to_string()).unwrap();
    let first = dir.path().join("model-00001-of-00002.safetensors");
    fs::copy(&first, dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(refusal(dir.path()).contains("in another file as well"));
}

/// Writes a decoder as llama.cpp's converter would.
fn write_gguf(
    decoder: &Decoder,
    dtype: GgmlDType,
    edit: impl Fn(&mut Vec<(String, Value)>),
) -> (TempDir, PathBuf) {
    let config = decoder.config();
    let family = config.model_type.as_str();
    let json: serde_json::Value = serde_json::from_str(&tokenizer_json()).unwrap();
    let mut tokens = vec![String::new(); VOCAB];
    let mut kinds = vec![Value::I32(1); VOCAB];
    for (token, id) in json["model"]["vocab"].as_object().unwrap() {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
    }
    for added in json["added_tokens"].as_array().unwrap() {
        let id = added["id"].as_u64().unwrap() as usize;
        tokens[id] = added["content"].as_str().unwrap().to_owned();
        kinds[id] = Value::I32(if added["special"] == true { 3 } else { 4 });
    }
    let texts = |list: Vec<String>| Value::Array(list.into_iter().map(Value::String).collect());
    let number = |value: usize| Value::U32(value as u32);
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let mut metadata = vec![
        (
            "general.architecture".to_owned(),
            Value::String(family.to_owned()),
        ),
        (
            "general.license".to_owned(),
            Value::String("apache-2.0".into()),
        ),
        (
            "tokenizer.ggml.model".to_owned(),
            Value::String("gpt2".into()),
        ),
        (
            "tokenizer.ggml.pre".to_owned(),
            Value::String("gpt-2".into()),
        ),
        ("tokenizer.ggml.tokens".to_owned(), texts(tokens)),
        ("tokenizer.ggml.token_type".to_owned(), Value::Array(kinds)),
        ("tokenizer.ggml.merges".to_owned(), Value::Array(Vec::new())),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(257)),
        (
            "tokenizer.chat_template".to_owned(),
            Value::String(template.into()),
        ),
    ];
    for (key, value) in [
        ("block_count", number(config.num_hidden_layers)),
        ("context_length", number(config.max_position_embeddings)),
        ("embedding_length", number(config.hidden_size)),
        ("feed_forward_length", number(config.intermediate_size)),
        ("attention.head_count", number(config.num_attention_heads)),
        (
            "attention.head_count_kv",
            number(config.num_key_value_heads),
        ),
        ("attention.key_length", number(config.head_dim())),
        (
            "attention.layer_norm_rms_epsilon",
            Value::F32(config.rms_norm_eps as f32),
        ),
        ("rope.freq_base", Value::F32(config.rope_theta as f32)),
    ] {
        metadata.push((format!("{family}.{key}"), value));
    }
    edit(&mut metadata);
    let mut tensors = Vec::new();
    for (name, var) in decoder.vars() {
        let mut tensor = var.as_detached_tensor();
        let is_key = name.ends_with("k_proj.weight");
        if family == "llama" && (is_key || name.ends_with("q_proj.weight")) {
            let heads = if is_key {
                config.num_key_value_heads
            } else {
                config.num_attention_heads
            };
            let dims = tensor.dims().to_vec();
            // The converter's own words: reshape, swap axes 1 and 2, reshape.
            tensor = tensor
                .reshape((heads, 2, dims[0] / heads / 2, dims[1]))
                .and_then(|tensor| tensor.transpose(1, 2)?.contiguous()?.reshape(dims))
                .unwrap();
        }
        let theirs = name
            .replace("model.layers.", "blk.")
            .replace("self_attn.q_proj", "attn_q")
            .replace("self_attn.k_proj", "attn_k")
            .replace("self_attn.v_proj", "attn_v")
            .replace("self_attn.o_proj", "attn_output")
            .replace("self_attn.q_norm", "attn_q_norm")
            .replace("self_attn.k_norm", "attn_k_norm")
            .replace("input_layernorm", "attn_norm")
            .replace("post_attention_layernorm", "ffn_norm")
            .replace("mlp.gate_proj", "ffn_gate")
            .replace("mlp.up_proj", "ffn_up")
            .replace("mlp.down_proj", "ffn_down")
            .replace("model.embed_tokens", "token_embd")
            .replace("model.norm", "output_norm")
            .replace("lm_head", "output");
        let dtype = if tensor.rank() == 1 {
            GgmlDType::F32
        } else {
            dtype
        };
        tensors.push((theirs, QTensor::quantize(&tensor, dtype).unwrap()));
    }
    if let Some(scaling) = serde_json::to_value(config).unwrap().get("rope_scaling") {
        let plain = |index: usize| {
            1.0 / config
                .rope_theta
                .powf(2.0 * index as f64 / config.head_dim() as f64)
        };
        let [factor, original] = ["factor", "original_max_position_embeddings"]
            .map(|key| scaling[key].as_f64().unwrap());
        let factors: Vec<f32> = (0..config.head_dim() / 2)
            .map(|index| {
                let wavelength = std::f64::consts::TAU / plain(index);
                if wavelength < original / 4.0 {
                    1.0
                } else if wavelength > original {
                    factor as f32
                } else {
                    let smooth = (original / wavelength - 1.0) / 3.0;
                    (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
                }
            })
            .collect();
        let factors = Tensor::new(factors, &Device::Cpu).unwrap();
        let factors = QTensor::quantize(&factors, GgmlDType::F32).unwrap();
        tensors.push(("rope_freqs.weight".into(), factors));
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("model.gguf");
    let mut file = fs::File::create(&path).unwrap();
    let metadata: Vec<(&str, &Value)> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    (dir, path)
}

/// [`families`], with the original context that Llama 3 really had.
fn published() -> Vec<Config> {
    let mut configs = families(VOCAB);
    for config in &mut configs {
        let mut json = serde_json::to_value(&*config).unwrap();
        if json.get("rope_scaling").is_some() {
            json["rope_scaling"]["original_max_position_embeddings"] = 8192.into();
            json["rope_scaling"]["factor"] = 32.0.into();
            json["rope_theta"] = 500_000.0.into();
            *config = Config::from_json(json.to_string().as_bytes()).unwrap();
        }
    }
    configs
}

#[test]
fn a_gguf_file_is_the_model_it_was_made_from() {
    for config in published() {
        let decoder = decoder(config, 4);
        let (_dir, path) = write_gguf(&decoder, GgmlDType::F32, |_| {});
        let opened = Pretrained::open(&path).unwrap();
        assert_eq!(opened.config(), decoder.config());
        assert_eq!(
            (opened.licence(), opened.stored()),
            (Some("apache-2.0"), "f32")
        );
        let read = opened.load(&Device::Cpu).unwrap();
        for name in decoder.vars().keys() {
            assert_eq!(
                values(read.decoder(), name),
                values(&decoder, name),
                "{name}"
            );
        }
        let talk = [ChatMessage::new("user", "2 + 2 = é? <answer><|im_end|>")];
        let plain = Tokenizer::from_bytes(tokenizer_json().as_bytes()).unwrap();
        assert_eq!(
            read.tokenizer().prompt(&talk).unwrap(),
            plain.prompt(&talk).unwrap()
        );
        // It trains and samples, and comes back from a checkpoint of ours.
        let home = TempDir::new().unwrap();
        read.save(home.path(), &serde_json::Value::Null).unwrap();
        let resumed = Policy::resume(home.path(), &Device::Cpu).unwrap().policy;
        let requests = [request("a", 2, 1)];
        assert_eq!(
            resumed.sample(&requests).unwrap(),
            read.sample(&requests).unwrap()
        );
    }
}

#[test]
fn quantised_weights_are_near() {
    // Quantised by blocks of 32 columns.
    let config = Config {
        hidden_size: 64,
        intermediate_size: 96,
        ..config_with(VOCAB, true)
    };
    let decoder = decoder(config, 4);
    for (dtype, most) in [
        (GgmlDType::F16, 1e-3),
        (GgmlDType::Q8_0, 1e-2),
        (GgmlDType::Q4_1, 0.1),
    ] {
        let (_dir, path) = write_gguf(&decoder, dtype, |_| {});
        let read = load(&path);
        for name in decoder.vars().keys() {
            for (ours, truth) in values(read.decoder(), name)
                .iter()
                .zip(values(&decoder, name))
            {
                assert!(
                    (ours - truth).abs() < most,
                    "{name}: {ours} against {truth}"
                );
            }
        }
    }
}

#[test]
fn what_is_wrong_with_a_gguf_file_is_said() {
    let decoder = decoder(config_with(VOCAB, true), 4);
    let refused = |key: &str, value: Option<Value>| {
        let (_dir, path) = write_gguf(&decoder, GgmlDType::F32, |metadata| {
            metadata.retain(|(name, _)| name != key);
            metadata.extend(value.clone().map(|value| (key.to_owned(), value)));
        });
        let error = refusal(&path);
        assert!(error.contains("model.gguf"), "{error}");
        error
    };
    let text = |text: &str| Some(Value::String(text.to_owned()));
    assert!(refused("general.architecture", text("mamba")).contains("\"mamba\" is not supported"));
    assert!(refused("general.alignment", Some(Value::U32(0))).contains("stumbled"));
    let ballast = Value::Array(vec![Value::U64(1); (33 << 20) / 8]);
    assert!(refused("general.ballast", Some(ballast)).contains("remaining"));
    assert!(refused("qwen2.block_count", None).contains("qwen2.block_count is missing"));
    assert!(refused("qwen2.block_count", text("3")).contains("whole number"));
    assert!(refused("qwen2.block_count", Some(Value::U32(2))).contains("has no place"));
    assert!(refused("qwen2.block_count", Some(Value::U32(4))).contains("is missing"));
    assert!(
        refused("qwen2.attention.head_count", Some(Value::U32(0)))
            .contains("num_attention_heads is 0")
    );
    assert!(
        refused("qwen2.embedding_length", Some(Value::U64(u64::MAX))).contains("hidden_size is")
    );
    assert!(refused("qwen2.expert_count", Some(Value::U32(8))).contains("mixture of 8 experts"));
    assert!(refused("qwen2.rope.scaling.type", text("yarn")).contains("yarn"));
    assert!(refused("tokenizer.ggml.model", text("llama")).contains("safetensors"));
    assert!(refused("tokenizer.ggml.pre", text("tekken")).contains("\"tekken\" is not supported"));
    assert!(
        refused("tokenizer.ggml.eos_token_id", Some(Value::U32(9999))).contains("of 260 tokens")
    );
    assert!(refused("tokenizer.ggml.tokens", Some(Value::Array(Vec::new()))).contains("kinds"));

    let (dir, path) = write_gguf(&decoder, GgmlDType::F32, |_| {});
    let whole = fs::read(&path).unwrap();
    for length in [0, 3, 20, 1000, whole.len() / 2, whole.len() - 100] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = refusal(&path);
        assert!(error.contains("model.gguf"), "{length} bytes: {error}");
    }
    assert!(refusal(&dir.path().join("nothing.gguf")).contains("nothing.gguf"));
}

fn edited(key: &str, value: serde_json::Value) -> policy::Result<Tokenizer> {
    let mut json: serde_json::Value = serde_json::from_str(&tokenizer_json()).unwrap();
    json[key] = value;
    Tokenizer::from_bytes(json.to_string().as_bytes())
}

#[test]
fn a_tokenizer_neither_cuts_nor_fills_up_as_its_file_was_last_used_to() {
    let plain = Tokenizer::from_bytes(tokenizer_json().as_bytes()).unwrap();
    let talk = [ChatMessage::new("user", "What is 12 + 34, and why?")];
    let prompt = plain.prompt(&talk).unwrap();
    let cut = serde_json::json!({
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
    });
    let filled = serde_json::json!({
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 7, "pad_type_id": 0, "pad_token": "a"
    });
    for (key, value) in [("truncation", cut), ("padding", filled)] {
        let tokenizer = edited(key, value).unwrap();
        assert_eq!(tokenizer.prompt(&talk).unwrap(), prompt, "{key}");
    }
}

#[test]
fn a_tokenizer_that_panics_or_swells_without_end_is_refused() {
    let refused = |key: &str, value| edited(key, value).err().unwrap().to_string();
    let endless = serde_json::json!({"type": "FixedLength", "length": 0});
    assert!(refused("pre_tokenizer", endless).contains("stumbled"));
    let more = serde_json::json!({
        "type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(64)
    });
    let bomb = serde_json::json!({"type": "Sequence", "normalizers": [more, more, more]});
    assert!(refused("normalizer", bomb).contains("1024 times as long"));
}

/// Numbers that follow from a seed, for edits of files.
fn draws(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((state >> 33) as usize) % below.max(1)
    }
}

/// A file with a few bytes changed, a stretch cut out, repeated or cut off;
/// mostly near its beginning, where it says what it holds.
fn mutated(bytes: &[u8], draw: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=draw(4) {
        let reach = if draw(3) == 0 {
            bytes.len()
        } else {
            bytes.len().min(2000)
        };
        let at = draw(reach);
        match draw(6) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + draw(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => {
                let end = (at + draw(64)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            3 if at + 8 <= bytes.len() => {
                let wild = [0, 1, 255, 1 << 31, u64::MAX, 1 << 62][draw(6)];
                bytes[at..at + 8].copy_from_slice(&wild.to_le_bytes());
            }
            _ if at < bytes.len() => bytes[at] = draw(256) as u8,
            _ => {}
        }
    }
    bytes
}

/// How many broken files are tried; more is a fuzzer, whose finds are seeds:
/// `MURMUR_BROKEN_FILES=100000 cargo test --release -p policy --test pretrained no_broken`.
const COUNT: &str = "MURMUR_BROKEN_FILES";

#[test]
fn no_broken_file_does_more_than_be_refused() {
    let decoder = decoder(published().remove(2), 4);
    let good = folder(&decoder, DType::BF16);
    shard(&good, 2);
    write(
        &good,
        "tokenizer_config.json",
        b"{\"chat_template\": \"{% for m in messages %}\
        <|im_start|>{{ m.role }} {{ m.content | trim }}<|im_end|>{% endfor %}<|im_start|>\"}",
    );
    let names: Vec<_> = fs::read_dir(good.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    let (_gguf_dir, gguf) = write_gguf(&decoder, GgmlDType::F32, |_| {});
    let gguf = fs::read(gguf).unwrap();
    let (mut refused, mut read) = (0, 0);
    let count = std::env::var(COUNT).map_or(400, |count| count.parse().unwrap());
    for seed in 0..count {
        let mut draw = draws(seed);
        let dir = TempDir::new().unwrap();
        let path = if seed % 2 == 0 {
            let path = dir.path().join("model.gguf");
            fs::write(&path, mutated(&gguf, &mut draw)).unwrap();
            path
        } else {
            let chosen = draw(names.len());
            for (index, name) in names.iter().enumerate() {
                let bytes = fs::read(good.path().join(name)).unwrap();
                let bytes = if index == chosen {
                    mutated(&bytes, &mut draw)
                } else {
                    bytes
                };
                fs::write(dir.path().join(name), bytes).unwrap();
            }
            dir.path().to_owned()
        };
        // A panic names the seed in the test's output.
        println!("seed {seed}");
        match Pretrained::open(&path).and_then(|opened| opened.load(&Device::Cpu)) {
            Ok(_) => read += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    // A changed weight is still a weight: some are read.
    assert!(
        refused > count / 2 && read > count / 40,
        "{refused} refused, {read} read"
    );
}

#[test]
fn the_checkpoint_s_own_end_tokens_end_a_completion_too() {
    let dir = folder(&decoder(config_with(VOCAB, true), 3), DType::F32);
    let draw = |policy: &Policy| {
        let request = Request {
            max_tokens: 8,
            ..request("2+2?", 1, 0)
        };
        policy.sample(&[request]).unwrap()[0][0].clone()
    };
    let endless = draw(&load(dir.path()));
    assert!(!endless.finished && endless.tokens.len() == 8);
    // The first token that was not there before.
    let at = (1..8)
        .find(|&at| !endless.tokens[..at].contains(&endless.tokens[at]))
        .unwrap();
    let end = endless.tokens[at];
    let other = (0..255)
        .find(|token| !endless.tokens.contains(token))
        .unwrap();
    let is_cut = |policy: &Policy| {
        let ended = draw(policy);
        assert!(ended.finished && policy.tokenizer().is_end(end));
        assert_eq!(ended.tokens, endless.tokens[..=at]);
        let spoken = &endless.tokens[..at];
        assert_eq!(ended.text, policy.tokenizer().decode(spoken).unwrap());
    };
    let says = |json: serde_json::Value| {
        write(&dir, "generation_config.json", json.to_string().as_bytes());
    };
    for written in [serde_json::json!(end), serde_json::json!([other, end])] {
        says(serde_json::json!({ "eos_token_id": written, "top_p": 0.8 }));
        is_cut(&load(dir.path()));
    }
    // A checkpoint and an export of it know them as well.
    let home = TempDir::new().unwrap();
    let policy = load(dir.path());
    policy.save(home.path(), &serde_json::Value::Null).unwrap();
    is_cut(&Policy::resume(home.path(), &Device::Cpu).unwrap().policy);
    let export = home.path().join("mine");
    policy.export(&export, DType::F32, None).unwrap();
    is_cut(&load(&export));

    says(serde_json::json!({ "eos_token_id": null }));
    assert_eq!(draw(&load(dir.path())), endless);
    says(serde_json::json!({ "eos_token_id": "</s>" }));
    let error = refusal(dir.path());
    assert!(
        error.contains("generation_config.json: eos_token_id is a token's number"),
        "{error}"
    );
    says(serde_json::json!({ "eos_token_id": VOCAB }));
    assert!(refusal(dir.path()).contains("eos_token_id is 260, and the model has 260 tokens"));
    fs::remove_file(dir.path().join("generation_config.json")).unwrap();

    let mut config = serde_json::to_value(load(dir.path()).decoder().config()).unwrap();
    config["eos_token_id"] = end.into();
    write(&dir, "config.json", config.to_string().as_bytes());
    is_cut(&load(dir.path()));
}

#[test]
fn a_gguf_file_s_end_tokens_end_a_completion() {
    let decoder = decoder(published().remove(1), 4);
    let ends = |key: &'static str, token: u32| {
        let (dir, path) = write_gguf(&decoder, GgmlDType::F32, move |metadata| {
            metadata.push((key.to_owned(), Value::U32(token)));
        });
        let opened = Pretrained::open(&path).map(|opened| opened.tokenizer().is_end(token));
        drop(dir);
        opened
    };
    assert!(ends("tokenizer.ggml.eot_token_id", 65).unwrap());
    assert!(ends("tokenizer.ggml.eot_token_id", 9999).is_err());
}

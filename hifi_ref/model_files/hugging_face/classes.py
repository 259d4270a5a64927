"""Of which family each class of transformers is, as config.json names it under "architectures".

A class that stands nowhere here is one whose changes are not known: see `family_of`. Without config.json the
architecture of the GGUF decides, where all of its classes are of one family.

Reference: TEXT_MODEL_MAP, and the classes that register for it, in `conversion` of llama.cpp v0.5.0.
"""

from __future__ import annotations

CLASSES: dict[str, str] = {
    "plain": """
        Qwen2ForCausalLM Qwen2Model Qwen2AudioForConditionalGeneration KORMoForCausalLM DotsOCRForCausalLM
        AudioFlamingo3ForConditionalGeneration Qwen3ForCausalLM Qwen3Model Qwen2VLModel Qwen2VLForConditionalGeneration
        Qwen2_5_VLForConditionalGeneration Qwen2_5OmniModel Qwen3VLForConditionalGeneration
        Qwen3ASRForConditionalGeneration StepVLForConditionalGeneration QWenLMHeadModel Olmo2ForCausalLM
        Olmo3ForCausalLM OlmoeForCausalLM SeedOssForCausalLM PhiForCausalLM Phi3ForCausalLM Phi4ForCausalLMV
        PhiMoEForCausalLM GPTBigCodeForCausalLM Starcoder2ForCausalLM CodeShellForCausalLM CohereForCausalLM
        DreamModel ExaoneForCausalLM Exaone4ForCausalLM
        ExaoneMoEForCausalLM ExaoneMoeForCausalLM Exaone4_5_ForConditionalGeneration Jais2ForCausalLM LLaDAMoEModel
        LLaDAMoEModelLM MaincoderForCausalLM MapleForCausalLM MellumForCausalLM MiniCPM3ForCausalLM MPTForCausalLM
        MiniMaxText01ForCausalLM MiniMaxM1ForCausalLM MiniMaxM2ForCausalLM OrionForCausalLM PLMForCausalLM
        SmallThinkerForCausalLM StableLmForCausalLM StableLMEpochForCausalLM LlavaStableLMEpochForCausalLM
        GrokForCausalLM Grok1ForCausalLM GroveMoeForCausalLM GlmOcrForConditionalGeneration
        Glm4MoeForCausalLM Glm4vMoeForConditionalGeneration SolarOpenForCausalLM HYV3ForCausalLM LagunaForCausalLM
        EuroBertModel JinaEmbeddingsV5Model
    """,
    "tied": """
        HunYuanMoEV1ForCausalLM HunYuanDenseV1ForCausalLM HunYuanVLForConditionalGeneration PanguEmbeddedForCausalLM
    """,
    "llama": """
        LLaMAForCausalLM LlamaForCausalLM MistralForCausalLM MixtralForCausalLM VLlama3ForCausalLM
        LlavaForConditionalGeneration VoxtralForConditionalGeneration IQuestCoderForCausalLM LlamaModel
        ArceeForCausalLM LlamaBidirectionalModel SmolLM3ForCausalLM NanbeigeForCausalLM CogVLMForCausalLM
        JanusForConditionalGeneration GraniteForCausalLM Mistral3ForConditionalGeneration Ministral3ForCausalLM
        DeciLMForCausalLM DeepseekForCausalLM InternLM3ForCausalLM LLaDAModelLM
    """,
    "llama weights": "OlmoForCausalLM OLMoForCausalLM MiniCPMForCausalLM ArcticForCausalLM",
    "granite_swa": "GraniteSWAForCausalLM",
    "sarashina": "Sarashina2VisionForCausalLM",
    "chameleon": "ChameleonForCausalLM ChameleonForConditionalGeneration",
    "glm4": "Glm4ForCausalLM Glm4vForConditionalGeneration",
    "xverse": "XverseForCausalLM",
    "apertus": "ApertusForCausalLM",
    "plamo": "PlamoForCausalLM",
    "gptneox": "GPTNeoXForCausalLM",
    "bloom": "BloomForCausalLM BloomModel",
    "falcon": "FalconForCausalLM RWForCausalLM",
    "internlm2": "InternLM2ForCausalLM",
    "baichuan": "BaichuanForCausalLM BaiChuanForCausalLM",
    "bailingmoe": "BailingMoeForCausalLM",
    "ernie": """
        Ernie4_5_ForCausalLM Ernie4_5ForCausalLM Ernie4_5_MoeForCausalLM PaddleOCRVLForConditionalGeneration
    """,
    "refact": "GPTRefactForCausalLM",
    "openelm": "OpenELMForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "jais": "JAISLMHeadModel",
    "gemma": "GemmaForCausalLM Gemma2ForCausalLM",
    "gemma3": "Gemma3ForCausalLM Gemma3ForConditionalGeneration Gemma3TextModel",
    "gemma3n": "Gemma3nForCausalLM Gemma3nForConditionalGeneration",
    "gemma4": "Gemma4ForCausalLM Gemma4ForConditionalGeneration Gemma4UnifiedForConditionalGeneration",
    "raised": "NemotronForCausalLM MiniMaxM3SparseForCausalLM MiniMaxM3SparseForConditionalGeneration",
    "plamo2": "Plamo2ForCausalLM PLaMo2ForCausalLM",
    "plamo3": "Plamo3ForCausalLM PLaMo3ForCausalLM",
    "qwen2moe": "Qwen2MoeForCausalLM Qwen3MoeForCausalLM Dots1ForCausalLM RND1",
    "experts turned": """
        Qwen3VLMoeForConditionalGeneration Qwen3OmniMoeForConditionalGeneration Llama4ForCausalLM
        Llama4ForConditionalGeneration
    """,
    "gpt_oss": "GptOssForCausalLM",
    "granitemoe": "GraniteMoeForCausalLM GraniteMoeSharedForCausalLM",
    "dbrx": "DbrxForCausalLM",
    "deepseek2": """
        DeepseekV2ForCausalLM DeepseekV3ForCausalLM DeepseekOCRForCausalLM UnlimitedOCRForCausalLM
        KimiVLForConditionalGeneration KimiK25ForConditionalGeneration YoutuForCausalLM YoutuVLForConditionalGeneration
    """,
    "deepseek2 further layers": "DeepseekV32ForCausalLM Glm4MoeLiteForCausalLM GlmMoeDsaForCausalLM",
    "mamba": "MambaForCausalLM MambaLMHeadModel FalconMambaForCausalLM",
    "mamba2": "Mamba2ForCausalLM",
    "granite hybrid": "GraniteMoeHybridForCausalLM BambaForCausalLM",
    "nemotron_h": "NemotronHForCausalLM NemotronHPuzzleForCausalLM",
    "falcon_h1": "FalconH1ForCausalLM",
    "kimi_linear": "KimiLinearForCausalLM KimiLinearModel",
    "jamba": "JambaForCausalLM",
    "qwen3next": "Qwen3NextForCausalLM",
    "qwen3.5": """
        Qwen3_5ForCausalLM Qwen3_5ForConditionalGeneration Qwen3_5MoeForCausalLM
        Qwen3_5MoeForConditionalGeneration
    """,
    "lfm2": "Lfm2ForCausalLM LFM2ForCausalLM Lfm2MoeForCausalLM",
    "bert": """
        BertModel BertForMaskedLM CamembertModel BertForSequenceClassification DistilBertModel DistilBertForMaskedLM
        DistilBertForSequenceClassification JinaBertModel JinaBertForMaskedLM ModernBertModel ModernBertForMaskedLM
        ModernBertForSequenceClassification NeoBERT NeoBERTLMHead NeoBERTForSequenceClassification
    """,
    "roberta": "RobertaModel RobertaForSequenceClassification XLMRobertaModel XLMRobertaForSequenceClassification",
    "nomic": "NomicBertModel",
    "t5": """
        T5WithLMHeadModel T5ForConditionalGeneration MT5ForConditionalGeneration UMT5ForConditionalGeneration UMT5Model
        T5EncoderModel
    """,
    "expert bias": "AfmoeForCausalLM BailingMoeV2ForCausalLM",
    "chatglm": "GlmForCausalLM ChatGLMModel ChatGLMForConditionalGeneration",
    "cohere2": "Cohere2ForCausalLM Cohere2MoeForCausalLM",
    "bitnet": "BitnetForCausalLM BitNetForCausalLM",
}

# Without config.json: GGUF architectures whose classes are all of one family, but for those of the family "plain".
ARCHITECTURES: dict[str, str] = {
    "llama": "llama granite arcee smollm3 mistral3 deci deepseek llada llama-embed nanbeige cogvlm",
    "llama weights": "olmo minicpm arctic",
    "xverse": "xverse",
    "apertus": "apertus",
    "gptneox": "gptneox",
    "bloom": "bloom",
    "falcon": "falcon",
    "internlm2": "internlm2",
    "baichuan": "baichuan",
    "ernie": "ernie4_5 ernie4_5-moe paddleocr",
    "gemma": "gemma gemma2",
    "gemma3": "gemma3",
    "gemma3n": "gemma3n",
    "raised": "nemotron",
    "qwen2moe": "qwen2moe qwen3moe",
    "experts turned": "llama4 qwen3vlmoe",
    "gpt_oss": "gpt-oss",
    "granitemoe": "granitemoe",
    "deepseek2": "deepseek2",
    "mamba": "mamba",
    "chatglm": "chatglm",
    "plain": """
        qwen qwen2 qwen3 qwen2vl qwen3vl olmo2 olmoe phi2 phi3 phimoe starcoder starcoder2 codeshell command-r dream
        exaone exaone4 maincoder minicpm3 orion plm seed_oss smallthinker stablelm glm4
    """,
}


def family_of(hf_class: str, arch: str) -> str | None:
    """A key of FAMILIES, or None where the converter's changes are not known."""
    table, name = (CLASSES, hf_class) if hf_class else (ARCHITECTURES, arch)
    return next((family for family, names in table.items() if name in names.split()), None)
